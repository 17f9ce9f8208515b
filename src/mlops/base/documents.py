"""YAML that people write, JSON that stages write: errors are explained in one line."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ValidationError

from mlops.base.errors import UserError, nearest, one_line
from mlops.base.files import read_json

LONGEST_VALUE = 60
# More than any of these files needs; a stranger's pull request may hold anything.
LONGEST_TEXT, DEEPEST = 250_000, 30
M = TypeVar("M", bound=BaseModel)
STRING, MERGE = "tag:yaml.org,2002:str", "tag:yaml.org,2002:merge"


def read(path: Path, expected: str, anchors: bool = False) -> dict[str, Any]:
    """The keys and values of one YAML file, as `parse` reads them and `text` refuses the file."""
    return parse(text(path, expected), str(path), anchors)


def text(path: Path, expected: str) -> str:
    """A file's text; `expected` says what should be in it, for UserError."""
    try:
        return path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise UserError(f"{path}: not found; expected {expected} there") from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise UserError(f"{path}: line {line}: not UTF-8; save the file as UTF-8") from None


def parse(content: str, place: str, anchors: bool = False) -> dict[str, Any]:
    """The keys and values of a YAML text; `place` names it in errors. Raises UserError.

    Refuses what hides a value or multiplies it: a key that is there twice, tags, depth, size, and
    anchors with their aliases unless `anchors` allows them.
    """
    if len(content) > LONGEST_TEXT:
        found = f"found {len(content):,} characters, expected at most {LONGEST_TEXT:,}"
        raise UserError(f"{place}: {found}")
    if line := conflict_line(content):
        raise UserError(f"{place}: line {line}: a merge conflict; resolve it first")
    try:
        loader = _Loader(content)
        loader.anchors_allowed = anchors
        parsed = loader.get_single_data()
    except (yaml.YAMLError, ValueError) as error:
        raise UserError(f"{place}: {_explain_syntax(error)}") from None
    if not isinstance(parsed, dict):
        raise UserError(f"{place}: found {shown(parsed)}, expected keys and values")
    return parsed


def conflict_line(content: str) -> int:
    """The line at which a merge left the first conflict in a text; 0 without one."""
    found = re.search(r"^<{7} ", content, flags=re.MULTILINE)
    return content[: found.start()].count("\n") + 1 if found else 0


class _Loader(yaml.SafeLoader):
    """YAML as plain keys and values, each of them where a reader sees it."""

    anchors_allowed = False
    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> Any:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        if event.anchor and not self.anchors_allowed:
            raise _problem(event.start_mark, f"found the anchor or alias {shown(event.anchor)}, "
                           "expected the value itself")  # fmt: skip
        if getattr(event, "tag", None):
            raise _problem(event.start_mark, f"found the tag {shown(event.tag)}, expected none")
        if self.depth == DEEPEST:
            raise _problem(event.start_mark, f"nested deeper than {DEEPEST} levels")
        self.depth += 1
        node: Any = super().compose_node(parent, index)
        self.depth -= 1
        is_number = isinstance(node, yaml.ScalarNode) and node.tag != STRING
        # Python would take minutes to read such a number, or could not print it.
        if is_number and len(node.value) > LONGEST_VALUE:
            raise _problem(event.start_mark, f"found {shown(node.value)}, expected less")
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if key.tag not in ((STRING, MERGE) if self.anchors_allowed else (STRING,)):
                found = shown(key.value) if isinstance(key, yaml.ScalarNode) else "braces"
                raise _problem(key.start_mark, f"found {found} as a key, expected text; "
                               "put it in quotes")  # fmt: skip
            if key.value in seen:
                raise _problem(key.start_mark, f"{shown(key.value)} is there twice")
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def _problem(mark: yaml.Mark, problem: str) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=mark)


def _refuse_bare_day(loader: _Loader, node: yaml.ScalarNode) -> str:
    """DVC reads `params.yaml` too, and does not know YAML's dates."""
    found = f'found the day {node.value}, expected it in quotes: "{node.value}"'
    raise _problem(node.start_mark, found)


_Loader.add_constructor("tag:yaml.org,2002:timestamp", _refuse_bare_day)


def _explain_syntax(error: Exception) -> str:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark:
        return one_line(f"line {error.problem_mark.line + 1}: {error.problem}")
    return f"not YAML: {one_line(error)}"


def load_json(path: Path, kind: type[M], absent: str) -> M:
    """A file of JSON as a model. Raises UserError, which says `absent` where there is no file."""
    try:
        return kind.model_validate(read_json(path))
    except FileNotFoundError:
        raise UserError(absent) from None
    except ValidationError as error:
        raise UserError(f"{path}: {explain(error, kind)}") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not JSON: {error}") from None


def explain(error: ValidationError, model: type[BaseModel]) -> str:
    """One line for what pydantic found; an unknown key first, as it explains a missing one."""
    problems = sorted(error.errors(), key=lambda problem: problem["type"] != "extra_forbidden")
    first = problems[0]
    # A key may hold anything, a line break too.
    key = one_line(".".join(map(str, first["loc"])))
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
    whole = "nothing" if value is None else repr(value)
    return whole if len(whole) <= LONGEST_VALUE else f"{whole[:LONGEST_VALUE]}..."


def _keys_at(location: tuple[int | str, ...], model: type[BaseModel]) -> list[str]:
    for part in location:
        annotation: Any = model.model_fields[str(part)].annotation
        # The model itself, or the first part of an annotation such as `Pin | None`.
        model = next(iter(get_args(annotation)), annotation)
    return [field.alias or name for name, field in model.model_fields.items()]
