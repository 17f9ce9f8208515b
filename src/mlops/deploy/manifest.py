"""`environments/<name>.yaml`: what runs where. People write the first part, commits the pin.

The pin is the file's last section, and only `release`, `promote` and `rollback` write it; what
stands above it, comments included, is kept to the byte.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from mlops.base.errors import UserError, nearest

FOLDER = Path("environments")
SCHEMA = FOLDER / "manifest.schema.json"
DIGEST = r"^[0-9a-f]{64}$"


class Section(BaseModel):
    """A frozen part of a manifest that knows no other keys than its own."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Contents(Section):
    """DVC's own names (MD5 of a folder's listing) of what the digests speak of."""

    bundle: str = Field(pattern=r"^[0-9a-f]{32}\.dir$")
    evidence: str = Field(pattern=r"^[0-9a-f]{32}\.dir$")


class Pin(Section):
    """One bundle, by the digest of its bytes, and where it comes from."""

    model: str = Field(min_length=1, description="the registered model's name")
    version: int = Field(ge=1, description="its version in the registry that released it")
    digest: str = Field(pattern=DIGEST, description="SHA-256 of the bundle")
    evidence: str = Field(pattern=DIGEST, description="SHA-256 of its evidence")
    run: str = Field(min_length=1, description="the MLflow run that made it")
    commit: str = Field(pattern=r"^[0-9a-f]{40}$", description="the Git commit that made it")
    data: str = Field(pattern=DIGEST, description="SHA-256 of the rows it was trained on")
    dvc: Contents
    metrics: dict[str, float] = Field(description="on its holdout")

    @property
    def short(self) -> str:
        """The pin in a few words."""
        return f"{self.model} {self.digest[:12]}"


class Limits(Section):
    """What a new version may come to before all traffic goes back to the one that ran."""

    errors: float = Field(default=0.01, ge=0, le=1, description="share of the requests that fail")
    latency: float = Field(
        default=2.0, gt=0, description="95th percentile, as a multiple of the running version's"
    )
    drift: float = Field(
        default=0.2, gt=0, description="population stability index against the running version"
    )


class Rollout(Section):
    """How a new version takes over from the one that runs."""

    steps: tuple[Annotated[int, Field(ge=1, le=99)], ...] = Field(
        default=(10, 50), description="percent of the traffic before all of it; [] for none"
    )
    bake_seconds: float = Field(default=60, ge=0, le=86_400, description="at each step")
    requests: int = Field(
        default=100, ge=1, le=100_000,
        description="fewest to judge a step by; reference rows make up for those that did not come",
    )  # fmt: skip
    limits: Limits = Limits()
    shadow: bool = Field(
        default=False, description="first answer copies of all requests, unserved, and compare"
    )

    @model_validator(mode="after")
    def _rise(self) -> Rollout:
        if list(self.steps) != sorted(set(self.steps)):
            raise ValueError("steps that rise")
        return self


class Manifest(Section):
    """What an environment runs."""

    target: Literal["local", "azureml", "databricks", "kubernetes"] = Field(
        description="where it is deployed"
    )
    endpoint: str = Field(pattern=r"^[a-z][a-z0-9-]{1,30}[a-z0-9]$", description="its name there")
    rollout: Rollout = Field(default=Rollout(), description="how a new version takes over")
    pin: Pin | None = Field(description="written by release, promote and rollback alone")


def path(environment: str) -> Path:
    """The manifest's file."""
    return FOLDER / f"{environment}.yaml"


def names(root: Path) -> list[str]:
    """The environments, in the order that a model moves through them."""
    found = sorted(file.stem for file in (root / FOLDER).glob("*.yaml"))
    return sorted(found, key=lambda name: name == "production")


def load(root: Path, environment: str) -> Manifest:
    """Read and check one environment's manifest; UserError says what is wrong with it."""
    file = root / path(environment)
    try:
        return parse(file.read_text(), str(path(environment)))
    except FileNotFoundError:
        known = names(root)
        hint = nearest(environment, known) or f"; known: {', '.join(known)}"
        raise UserError(f"{path(environment)}: not found{hint}") from None


def parse(text: str, where: str) -> Manifest:
    """A manifest's text, checked; `where` names it in what is said of it."""
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UserError(f"{where}: not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise UserError(f"{where}: found {content!r}, expected keys and values")
    try:
        manifest = Manifest.model_validate(content)
    except ValidationError as error:
        raise UserError(f"{where}: {_explain(error)}") from None
    if list(content)[-1] != "pin":
        raise UserError(f"{where}: pin: found above {list(content)[-1]!r}, expected last")
    return manifest


def with_pin(text: str, pin: Pin | None) -> str:
    """The manifest's text with another pin; everything above the pin stays as it is."""
    above = re.split(r"^pin:", text, maxsplit=1, flags=re.MULTILINE)[0]
    content = pin.model_dump(mode="json") if pin else None
    return above + yaml.safe_dump({"pin": content}, sort_keys=False, width=100)


def schema() -> str:
    """The JSON schema that editors check manifests with."""
    content: dict[str, Any] = Manifest.model_json_schema()
    return json.dumps(content, indent=2) + "\n"


def _explain(error: ValidationError) -> str:
    # A misspelt key explains the missing one.
    problem = min(error.errors(), key=lambda found: found["type"] != "extra_forbidden")
    where = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        known = _keys(problem["loc"][:-1])
        return f"{where}: unknown key{nearest(str(problem['loc'][-1]), known)}"
    if problem["type"] == "missing":
        return f"{where}: missing"
    wanted = problem["msg"].removeprefix("Input should be ").removeprefix("Value error, ")
    return f"{where}: found {problem['input']!r}, expected {wanted}"


def _keys(location: tuple[int | str, ...]) -> list[str]:
    sections: dict[tuple[int | str, ...], type[Section]] = {
        (): Manifest, ("pin",): Pin, ("pin", "dvc"): Contents,
        ("rollout",): Rollout, ("rollout", "limits"): Limits,
    }  # fmt: skip
    return list(sections[location].model_fields)
