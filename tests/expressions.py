"""The expressions of both CI systems, evaluated by Jinja, whose operators and paths are theirs.

Only what the CI files use is known: a path to what is not there is null, null equals the empty
text, `&&` and `||` give an operand. Any other name or function is refused.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import cache
from typing import Any

import jinja2
import jinja2.meta

TEMPLATE = re.compile(r"\$\{\{((?:[^'}]|'[^']*'|\}(?!\}))*)\}\}")
# A text, an operator, a function whose name is Jinja's operator, a member of an object.
TOKEN = re.compile(r"'(?:[^']|'')*'|&&|\|\||!(?!=)|\b(?:and|in|not|or)(?=\()|\.[A-Za-z_][\w-]*")
OPERATORS = {"&&": " and ", "||": " or ", "!": " not "}


class Null(jinja2.ChainableUndefined):
    """A member that its object does not have."""

    def __eq__(self, other: object) -> bool:
        return not other

    __hash__ = jinja2.ChainableUndefined.__hash__


JINJA = jinja2.Environment(undefined=Null)


def as_text(value: Any) -> str:
    """How a value stands in a text."""
    if value is None or isinstance(value, bool):
        return {None: "", True: "true", False: "false"}[value]
    return str(value)


def _equal(left: Any, right: Any) -> bool:
    return as_text(left).lower() == as_text(right).lower()


FUNCTIONS = {
    "toJSON": json.dumps,
    "fromJSON": json.loads,
    "and_": lambda *values: all(values),
    "not_": lambda value: not value,
    "in_": lambda one, *others: any(_equal(one, other) for other in others),
    "eq": _equal,
    "format": lambda text, *values: text.format(*map(as_text, values)),
    "ne": lambda left, right: not _equal(left, right),
    "or_": lambda *values: any(values),
    "trim": lambda text: as_text(text).strip(),
    "contains": lambda text, part: as_text(part).lower() in as_text(text).lower(),
}


def evaluate(text: str, names: Mapping[str, Any]) -> Any:
    """The value of one expression in which these contexts and functions are known."""
    expression, asked = _compiled(text)
    known = {**FUNCTIONS, **names}
    assert asked <= set(known), f"{text}: unknown: {asked - set(known)}"
    return expression(known)


def fill(value: Any, names: Mapping[str, Any]) -> Any:
    """The value with each `${{ }}` in it evaluated; one that is the whole text keeps its type."""
    if not isinstance(value, str):
        return value
    if whole := TEMPLATE.fullmatch(value.strip()):
        return evaluate(whole[1], names)
    return TEMPLATE.sub(lambda part: as_text(evaluate(part[1], names)), value)


@cache
def _compiled(text: str) -> tuple[jinja2.environment.TemplateExpression, set[str]]:
    code = TOKEN.sub(_as_jinja, text.strip())
    asked = jinja2.meta.find_undeclared_variables(JINJA.parse(f"{{{{ {code} }}}}"))
    return JINJA.compile_expression(code, undefined_to_none=False), asked


def _as_jinja(token: re.Match[str]) -> str:
    if token[0].startswith("'"):
        return json.dumps(token[0][1:-1].replace("''", "'"))
    if token[0].startswith("."):
        return f"[{token[0][1:]!r}]"
    return OPERATORS.get(token[0], f"{token[0]}_")
