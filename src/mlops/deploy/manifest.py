"""`environments/<name>.yaml`: what runs where.

People write the file, but for its last section, the pin: `release`, `promote` and `rollback` write
that, and keep every byte above it, comments included.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, ValidationError, model_validator

from mlops import deploy
from mlops.base import documents
from mlops.base.errors import UserError, nearest
from mlops.registry.pin import Pin, Section

FOLDER = Path("environments")
SCHEMA = FOLDER / "manifest.schema.json"
SIGNATURES = FOLDER / "signatures"


class Limits(Section):
    """The limits beyond which all traffic goes back to the version that ran before."""

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


class Signer(Section):
    """Who must have signed what is deployed: a key's owner, or an identity that Sigstore knows."""

    key: str | None = Field(default=None, description="the public key's file in the repository")
    identity: str | None = Field(default=None, description="as a workflow's address, or an e-mail")
    issuer: str | None = Field(default=None, description="the address of who vouches for it")
    trust: str | None = Field(
        default=None,
        description="file of a Sigstore trust configuration; by default the public one",
    )

    @model_validator(mode="after")
    def _one(self) -> Signer:
        given = [name for name in ("key", "identity", "issuer") if getattr(self, name)]
        if given not in (["key"], ["identity", "issuer"]):
            raise ValueError("a key, or an identity and its issuer")
        if any(str(SIGNATURES) in Path(file).as_posix() for file in (self.key, self.trust) if file):
            raise ValueError(f"a file outside {SIGNATURES}, which releases write")
        return self


class Promotion(Section):
    """When a version may come here from the environment that runs it."""

    source: str | None = Field(
        default=None, alias="from", min_length=1, description="the environment it comes from"
    )
    hours: float = Field(
        default=0, ge=0, description="that the source has pinned these very bytes, and runs them"
    )
    requests: int = Field(default=0, ge=0, description="that they have answered there")
    monitoring: Literal["ok", "any"] = Field(
        default="any", description="what monitoring says of them there"
    )
    verify: str | None = Field(
        default=None, min_length=1, description="a command that must end with 0, by a shell"
    )


class Serving(Section):
    """Where its service looks up features by key, and how old they may be."""

    store: str = Field(
        default="embedded",
        min_length=1,
        description="the kind of place: a module of mlops.serving.stores, or a path",
    )
    features: str | None = Field(
        default=None,
        min_length=1,
        description="the location there; by default a file of this folder",
    )
    stale_after: float = Field(default=48, gt=0, description="hours")

    @model_validator(mode="after")
    def _placed(self) -> Serving:
        if self.store != "embedded" and not self.features:
            raise ValueError("features, the location in that store")
        if self.store == "redis" and not re.fullmatch(r"\w+/\S+", str(self.features)):
            raise ValueError("features as VARIABLE/NAME: what holds the URL of Redis, and a name")
        return self

    def place(self, environment: str, root: Path) -> str:
        """The location of the features; a file is below the repository."""
        if self.store != "embedded":
            return str(self.features)
        return str(root / (self.features or f".run/features/{environment}.sqlite"))

    def options(self, place: str) -> list[str]:
        """The options by which a service looks features up."""
        stale_after = f"{self.stale_after:g}"
        return ["--store", self.store, "--features", place, "--stale-after", stale_after]

    @staticmethod
    def outdated(options: Sequence[str], expected: Sequence[str]) -> str:
        """How the options of a running service differ from those that it would be given now."""
        if list(options) == list(expected):
            return ""
        found = " ".join(options) or "no options"
        return f"serving: runs with {found}, expected {' '.join(expected) or 'none'}"


class Manifest(Section):
    """What an environment runs."""

    target: str = Field(
        min_length=1,
        description="where it is deployed: a folder of mlops.deploy, or a module's path",
        examples=["local", "azureml", "databricks", "kubernetes", "churn.targets.edge"],
    )
    endpoint: str = Field(pattern=r"^[a-z][a-z0-9-]{1,30}[a-z0-9]$", description="its name there")
    model: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$",
        max_length=100,
        description="the registered model that the bundle is copied to; by default the pin's own",
        examples=["production.models.flights_late"],
    )
    rollout: Rollout = Field(default=Rollout(), description="how a new version takes over")
    serving: Serving = Field(default=Serving(), description="requests by key")
    promotion: Promotion = Field(default=Promotion(), description="when a version may come here")
    breaking: str | None = Field(
        default=None,
        min_length=1,
        description="why a new version may refuse what clients of the running one send",
    )
    signer: Signer | None = Field(default=None, description="who must have signed what runs")
    pin: Pin | None = Field(description="written by release, promote and rollback alone")


def path(environment: str) -> Path:
    """The manifest's file."""
    return FOLDER / f"{environment}.yaml"


def names(root: Path) -> list[str]:
    """The environments, in the order that a model moves through them."""
    files = sorted(file.stem for file in (root / FOLDER).glob("*.yaml"))
    return sorted(files, key=lambda name: name == "production")


def load(root: Path, environment: str) -> Manifest:
    """Read and check one environment's manifest, its target too. Raises UserError."""
    place = str(path(environment))
    if not (root / place).exists():
        hint = nearest(environment, names(root)) or f"; known: {', '.join(names(root))}"
        raise UserError(f"{place}: not found{hint}")
    manifest = parse(documents.text(root / place, "a manifest"), place)
    deploy.named(manifest.target, f"{place}: target")
    return manifest


def parse(text: str, place: str) -> Manifest:
    """Check a manifest's text but for its target's name; `place` names it in errors.

    The target is not looked up, so that an old commit can be read when its target is gone.
    """
    content = documents.parse(text, place)
    try:
        manifest = Manifest.model_validate(content)
    except ValidationError as error:
        raise UserError(f"{place}: {documents.explain(error, Manifest)}") from None
    if list(content)[-1] != "pin":
        raise UserError(f"{place}: pin: found above {list(content)[-1]!r}, expected last")
    if len(re.findall(r"^pin:", text, flags=re.MULTILINE)) != 1:
        raise UserError(f"{place}: pin: expected at the beginning of its line, without quotes")
    # What stands above is people's, what stands below is the pin's: no other reader may differ.
    if documents.parse(with_pin(text, None), place) != {**content, "pin": None}:
        raise UserError(f"{place}: pin: found keys below it, expected it last")
    return manifest


def with_pin(text: str, pin: Pin | None) -> str:
    """The manifest's text with another pin; every byte above the pin stays."""
    above = re.split(r"^pin:", text, maxsplit=1, flags=re.MULTILINE)[0]
    content = pin.model_dump(mode="json") if pin else None
    return above + yaml.safe_dump({"pin": content}, sort_keys=False, width=100)


def schema() -> str:
    """The JSON schema that editors check manifests with."""
    content: dict[str, Any] = Manifest.model_json_schema()
    return json.dumps(content, indent=2) + "\n"
