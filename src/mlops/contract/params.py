"""`params.yaml`: every knob of the pipeline, checked before anything runs."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mlops.base.errors import UserError, nearest

FILE = Path("params.yaml")
LONGEST = 60


class Section(BaseModel):
    """A frozen part of the parameters that knows no other keys than its own."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Data(Section):
    """Where the raw tables come from, and the last day known."""

    source: Literal["package", "files"]
    location: str = Field(min_length=1)
    until: dt.date = Field(strict=False)


class Split(Section):
    """The split by time, backwards from `data.until`; all in days but `folds`."""

    holdout_days: int = Field(ge=1)
    validation_days: int = Field(ge=1)
    folds: int = Field(ge=1, le=12)


class Tune(Section):
    """The search over families and hyperparameters."""

    max_evals: int = Field(ge=1)
    families: tuple[str, ...] = Field(min_length=1, strict=False)
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


class Gate(Section):
    """What a candidate must reach. `limits` are least values, or most where less is better."""

    limits: dict[str, float]
    margin: float = Field(ge=0)
    slice_rows: int = Field(ge=30)
    slice_limit: float | None
    slice_margin: float = Field(ge=0)
    latency_ms: float = Field(gt=0)
    size_mb: float = Field(gt=0)
    draws: int = Field(ge=20)


class Monitoring(Section):
    """Where the service's answers lie, and by how much they may differ from the reference.

    A window is `hours` long; `rows` is the fewest of it, and of its labels, to judge it by.
    """

    logs: str = Field(min_length=1)
    labels: str | None = Field(min_length=1)
    hours: int = Field(ge=1, le=24 * 366)
    windows: int = Field(ge=1, le=12)
    rows: int = Field(ge=30)
    ignore: tuple[str, ...] = Field(strict=False)
    drift: float = Field(gt=0)
    share: float = Field(gt=0, le=1)
    scores: float = Field(gt=0)
    missing: float = Field(gt=0, le=1)
    unseen: float = Field(gt=0, le=1)
    performance: float = Field(ge=0)
    calibration: float = Field(ge=0)


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
    gate: Gate
    monitoring: Monitoring


def load(root: Path = Path()) -> Params:
    """Read and check `params.yaml` under `root`.

    Raises UserError with one line for the first key that is missing, unknown or ill-typed.
    """
    path = root / FILE
    try:
        content = yaml.load(path.read_text(), _Loader)
    except FileNotFoundError:
        raise UserError(f"{path}: not found; expected the pipeline's parameters there") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: {_where_not_yaml(error)}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: found {_found(content)}, expected keys and values")
    try:
        return Params.model_validate(content)
    except ValidationError as error:
        raise UserError(f"{path}: {_explain(error)}") from None


class _Loader(yaml.SafeLoader):
    """Refuses a key that is there twice, of which YAML would quietly take the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if key.value in seen:
                raise yaml.MarkedYAMLError(
                    problem=f"{key.value!r} is there twice", problem_mark=key.start_mark
                )
            seen.add(str(key.value))
        return super().construct_mapping(node, deep)


def _refuse_bare_day(loader: _Loader, node: yaml.ScalarNode) -> str:
    """DVC reads this file too, and knows no dates of YAML's own."""
    raise yaml.MarkedYAMLError(
        problem=f'found the day {node.value}, expected it in quotes: "{node.value}"',
        problem_mark=node.start_mark,
    )


_Loader.add_constructor("tag:yaml.org,2002:timestamp", _refuse_bare_day)


def _where_not_yaml(error: Exception) -> str:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark:
        return f"line {error.problem_mark.line + 1}: {error.problem}"
    return f"not YAML: {' '.join(str(error).split())}"


def _explain(error: ValidationError) -> str:
    """One line for what pydantic found; a misspelt key first, as it explains the missing one."""
    problems = sorted(error.errors(), key=lambda found: found["type"] != "extra_forbidden")
    first = problems[0]
    # A key may hold anything, a line's end too.
    where = " ".join(".".join(str(part) for part in first["loc"]).split())
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    if first["type"] == "extra_forbidden":
        known = _keys_at(first["loc"][:-1])
        hint = nearest(str(first["loc"][-1]), known) or f"; known: {', '.join(sorted(known))}"
        return f"{where}: unknown key{hint}{more}"
    if first["type"] == "missing":
        return f"{where}: missing; expected a value{more}"
    return f"{where}: found {_found(first['input'])}, expected {_expected(first)}{more}"


# Pydantic's own words speak of Python's types.
EXPECTED = {
    "int_type": "a whole number",
    "float_type": "a number",
    "string_type": "text",
    "string_too_short": "text",
    "string_pattern_mismatch": "a package's name",
    "tuple_type": "a list",
    "too_short": "at least one item",
    "model_type": "keys and values",
}


def _expected(problem: Any) -> str:
    kind, message = problem["type"], problem["msg"].removeprefix("Input should be ")
    if kind.startswith("date"):
        return "a day such as 2013-12-31"
    if kind == "literal_error":
        names = message.replace("'", "").replace(" or ", ", ").split(", ")
        return f"{message}{nearest(str(problem['input']), names)}"
    return EXPECTED.get(kind, str(message))


def _found(value: Any) -> str:
    text = "nothing" if value is None else repr(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."


def _keys_at(location: tuple[int | str, ...]) -> list[str]:
    section: type[BaseModel] = Params
    for part in location:
        annotation = section.model_fields[str(part)].annotation
        assert isinstance(annotation, type)
        section = annotation
    return list(section.model_fields)
