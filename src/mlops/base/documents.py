"""YAML that people write: read safely, and its errors explained in one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from mlops.base.errors import UserError, nearest

LONGEST_VALUE = 60


def read(path: Path, expected: str) -> dict[str, Any]:
    """The keys and values of one YAML file; `expected` says what should be in it, for UserError."""
    try:
        text = path.read_text()
    except FileNotFoundError:
        raise UserError(f"{path}: not found; expected {expected} there") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text: {error.reason}") from None
    return parse(text, str(path))


def parse(text: str, place: str) -> dict[str, Any]:
    """The keys and values of a YAML text; `place` names it in errors. Raises UserError."""
    try:
        content = yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        raise UserError(f"{place}: {_explain_syntax(error)}") from None
    if not isinstance(content, dict):
        raise UserError(f"{place}: found {shown(content)}, expected keys and values")
    return content


class _Loader(yaml.SafeLoader):
    """Refuses a key that is there twice, of which YAML would silently take the last."""

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
    """DVC reads `params.yaml` too, and does not know YAML's dates."""
    raise yaml.MarkedYAMLError(
        problem=f'found the day {node.value}, expected it in quotes: "{node.value}"',
        problem_mark=node.start_mark,
    )


_Loader.add_constructor("tag:yaml.org,2002:timestamp", _refuse_bare_day)


def _explain_syntax(error: yaml.YAMLError) -> str:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark:
        return f"line {error.problem_mark.line + 1}: {error.problem}"
    return f"not YAML: {' '.join(str(error).split())}"


def explain(error: ValidationError, model: type[BaseModel]) -> str:
    """One line for what pydantic found; an unknown key first, as it explains a missing one."""
    problems = sorted(error.errors(), key=lambda problem: problem["type"] != "extra_forbidden")
    first = problems[0]
    # A key may hold anything, a line break too.
    key = " ".join(".".join(map(str, first["loc"])).split())
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    if first["type"] == "extra_forbidden":
        known = _keys_at(first["loc"][:-1], model)
        hint = nearest(str(first["loc"][-1]), known) or f"; known: {', '.join(sorted(known))}"
        return f"{key}: unknown key{hint}{more}"
    if first["type"] == "missing":
        return f"{key}: missing; expected a value{more}"
    return f"{key}: found {shown(first['input'])}, expected {_expected(first)}{more}"


# Pydantic's messages name Python's types.
EXPECTED = {
    "int_type": "a whole number",
    "float_type": "a number",
    "string_type": "text",
    "string_too_short": "text",
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
    if kind == "string_pattern_mismatch":
        return f"text that matches {problem['ctx']['pattern']}"
    return EXPECTED.get(kind, str(message).removeprefix("Value error, "))


def shown(value: Any) -> str:
    """A value as an error quotes it: short, and `nothing` for null."""
    text = "nothing" if value is None else repr(value)
    return text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}..."


def _keys_at(location: tuple[int | str, ...], model: type[BaseModel]) -> list[str]:
    for part in location:
        annotation: Any = model.model_fields[str(part)].annotation
        # The model itself, or the first part of an annotation such as `Pin | None`.
        model = next(iter(get_args(annotation)), annotation)
    return list(model.model_fields)
