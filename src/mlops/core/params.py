"""`params.yaml`: every knob of the pipeline, checked before anything runs."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mlops.core.errors import UserError, nearest

FILE = Path("params.yaml")


class Section(BaseModel):
    """A frozen part of the parameters that knows no other keys than its own."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Data(Section):
    """Where the raw tables come from, and the last day known."""

    source: Literal["package", "files"]
    location: str = Field(min_length=1)
    until: dt.date


class Split(Section):
    """The split by time, backwards from `data.until`; all in days but `folds`."""

    holdout_days: int = Field(ge=1)
    validation_days: int = Field(ge=1)
    folds: int = Field(ge=1, le=12)


class Tune(Section):
    """The search over families and hyperparameters."""

    max_evals: int = Field(ge=1)
    families: tuple[str, ...] = Field(min_length=1)
    first_look: float = Field(gt=0, le=1)
    give_up: float = Field(ge=0)
    parallelism: int = Field(ge=1)


class Train(Section):
    """The final fit and its export."""

    parity: float = Field(gt=0, le=0.01)
    reference_rows: int = Field(ge=1)


class Evaluate(Section):
    """How surely the holdout is measured."""

    draws: int = Field(ge=20)
    importance_rows: int = Field(ge=100)
    importance_repeats: int = Field(ge=1)


class Params(Section):
    """The whole of `params.yaml`."""

    project: str = Field(pattern=r"^[a-z_][a-z0-9_]*$")
    model: str = Field(min_length=1)
    engine: Literal["duckdb", "spark"]
    seed: int = Field(ge=0, lt=2**31)
    threads: int = Field(ge=1)
    data: Data
    split: Split
    tune: Tune
    train: Train
    evaluate: Evaluate


def load(root: Path = Path()) -> Params:
    """Read and check `params.yaml` under `root`.

    Raises UserError with one line for the first key that is missing, unknown or ill-typed.
    """
    path = root / FILE
    try:
        content = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        raise UserError(f"{path}: not found; expected the pipeline's parameters there") from None
    except yaml.YAMLError as error:
        raise UserError(f"{path}: not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: found {type(content).__name__}, expected keys and values")
    try:
        return Params.model_validate(content)
    except ValidationError as error:
        raise UserError(f"{path}: {_explain(error, content)}") from None


def _explain(error: ValidationError, content: dict[str, Any]) -> str:
    """One line for what pydantic found; a misspelt key first, as it explains the missing one."""
    problems = sorted(error.errors(), key=lambda found: found["type"] != "extra_forbidden")
    first = problems[0]
    where = ".".join(str(part) for part in first["loc"])
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    if first["type"] == "extra_forbidden":
        known = _keys_at(first["loc"][:-1])
        hint = nearest(str(first["loc"][-1]), known) or f"; known: {', '.join(sorted(known))}"
        return f"{where}: unknown key{hint}{more}"
    if first["type"] == "missing":
        return f"{where}: missing; expected a value{more}"
    return f"{where}: found {first['input']!r}, expected {_expected(first['msg'])}{more}"


def _expected(message: str) -> str:
    return message.removeprefix("Input should be ").removeprefix("Value error, ")


def _keys_at(location: tuple[int | str, ...]) -> list[str]:
    section: type[BaseModel] = Params
    for part in location:
        annotation = section.model_fields[str(part)].annotation
        assert isinstance(annotation, type)
        section = annotation
    return list(section.model_fields)
