"""The expressions of both CI systems, evaluated as the systems themselves do.

The operators are GitHub's: loose equality that ignores case, `&&` and `||` that give an operand.
Azure's conditions use none, only functions. Both read contexts by `.name` and `['name']`, whatever
the case; what is not there is null. Values are None, bool, float, str, list and dict.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

Value = Any
Node = Callable[[], Value]
Functions = Mapping[str, Callable[..., Value]]
Contexts = Mapping[str, Value]

NUMBER = r"[-+]?(?:0x[0-9a-fA-F]+|0o[0-7]+|(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?|Infinity)"
TOKEN = re.compile(
    rf"\s*(?:(?P<text>'(?:[^']|'')*')|(?P<name>[A-Za-z_][\w-]*)|(?P<number>{NUMBER})"
    r"|(?P<sign>==|!=|<=|>=|&&|\|\||[<>!()\[\].,]))"
)
LITERALS = {"true": True, "false": False, "null": None, "NaN": math.nan, "Infinity": math.inf}
TEMPLATE = re.compile(r"\$\{\{((?:[^'}]|'[^']*'|\}(?!\}))*)\}\}")
LEVELS = (("||",), ("&&",), ("==", "!="), ("<", "<=", ">", ">="))


class ExpressionError(Exception):
    """Not an expression, or one that names what there is not."""


def evaluate(text: str, contexts: Contexts, functions: Functions) -> Value:
    """The value of one expression. Raises ExpressionError."""
    given = {name.lower(): value for name, value in contexts.items()}
    known = {name.lower(): function for name, function in {**COMMON, **functions}.items()}
    reader = _Reader(_tokens(text), given, known)
    node = reader.operators()
    if reader.tokens:
        raise ExpressionError(f"{text}: unexpected {reader.tokens[0][1]!r}")
    return node()


def fill(text: str, contexts: Contexts, functions: Functions) -> Value:
    """The text with each `${{ }}` in it evaluated; one that is the whole text keeps its type."""
    whole = TEMPLATE.fullmatch(text.strip())
    if whole:
        return evaluate(whole[1], contexts, functions)
    return TEMPLATE.sub(lambda part: as_text(evaluate(part[1], contexts, functions)), text)


def _tokens(text: str) -> list[tuple[str, str]]:
    found, place = [], 0
    text = text.rstrip()
    while place < len(text):
        match = TOKEN.match(text, place)
        if not match:
            raise ExpressionError(f"{text}: unexpected {text[place:]!r}")
        found.append((str(match.lastgroup), match[str(match.lastgroup)]))
        place = match.end()
    return found


@dataclass
class _Reader:
    """Reads tokens from the left into one node: a function that gives the value when called."""

    tokens: list[tuple[str, str]]
    contexts: Contexts
    functions: Functions

    @property
    def next(self) -> str:
        kind, text = self.tokens[0] if self.tokens else ("end", "")
        return "" if kind == "text" else text

    def take(self, *signs: str) -> str:
        return self.tokens.pop(0)[1] if self.next in signs else ""

    def expect(self, sign: str) -> None:
        if not self.take(sign):
            raise ExpressionError(f"expected {sign!r}, found {self.tokens[:1]}")

    def operators(self, level: int = 0) -> Node:
        if level == len(LEVELS):
            return self.unary()
        left = self.operators(level + 1)
        while sign := self.take(*LEVELS[level]):
            left = partial(OPERATORS[sign], left, self.operators(level + 1))
        return left

    def unary(self) -> Node:
        if self.take("!"):
            negated = self.unary()
            return lambda: not truthy(negated())
        node, followed = self.primary()
        while followed and (sign := self.take(".", "[")):
            node = partial(_member, node, self.key(sign))
        return node

    def key(self, sign: str) -> Node:
        if sign == "[":
            node = self.operators()
            self.expect("]")
            return node
        kind, name = self.tokens.pop(0) if self.tokens else ("end", "")
        if kind != "name":
            raise ExpressionError(f"expected a name after '.', found {name!r}")
        return lambda: name

    def primary(self) -> tuple[Node, bool]:
        """A literal, or what `.` and `[` may follow: a group, a call, a context."""
        if self.take("("):
            node = self.operators()
            self.expect(")")
            return node, True
        kind, text = self.tokens.pop(0) if self.tokens else ("end", "the end")
        if kind == "name" and text not in LITERALS:
            return self.named(text), True
        if kind not in ("name", "number", "text"):
            raise ExpressionError(f"unexpected {text!r}")
        value = LITERALS[text] if kind == "name" else _literal(kind, text)
        return lambda: value, False

    def named(self, name: str) -> Node:
        known = self.functions if self.next == "(" else self.contexts
        if name.lower() not in known:
            raise ExpressionError(f"{name}: unknown; known: {', '.join(sorted(known))}")
        found = known[name.lower()]
        if not self.take("("):
            return lambda: found
        given = self.arguments()
        return lambda: found(*(node() for node in given))

    def arguments(self) -> list[Node]:
        given: list[Node] = []
        while not self.take(")"):
            given.append(self.operators())
            if self.next != ")":
                self.expect(",")
        return given


def _literal(kind: str, text: str) -> Value:
    return as_number(text) if kind == "number" else text[1:-1].replace("''", "'")


def _member(node: Node, name: Node) -> Value:
    value, key = node(), name()
    if isinstance(value, dict):
        return {str(known).lower(): item for known, item in value.items()}.get(as_text(key).lower())
    if isinstance(value, list) and 0 <= as_number(key) < len(value):
        return value[int(as_number(key))]
    return None


def truthy(value: Value) -> bool:
    """Whether a condition with this value holds."""
    return not (value is None or value is False or value == "" or value == 0 or value != value)


def as_text(value: Value) -> str:
    """How a value stands in a text."""
    if value is None or isinstance(value, bool):
        return {None: "", True: "true", False: "false"}[value]
    if isinstance(value, int | float):
        return f"{value:.15g}".replace("nan", "NaN").replace("inf", "Infinity")
    return value if isinstance(value, str) else "Array" if isinstance(value, list) else "Object"


def as_number(value: Value) -> float:
    """What a value is beside a number; NaN where it is none."""
    if value is None or isinstance(value, bool | int | float):
        return float(value or 0)
    text = value.strip() if isinstance(value, str) else "none"
    if not text:
        return 0.0
    if not re.fullmatch(NUMBER, text):
        return math.nan
    based = re.fullmatch(r"0([xo])(.*)", text)
    return float(int(based[2], 16 if based[1] == "x" else 8)) if based else float(text)


def equal(left: Value, right: Value) -> bool:
    """GitHub's loose equality: other types are compared as numbers, texts whatever their case."""
    if isinstance(left, list | dict) or isinstance(right, list | dict):
        return left is right
    if isinstance(left, str) and isinstance(right, str):
        return left.upper() == right.upper()
    return (left is None and right is None) or as_number(left) == as_number(right)


def _below(left: Value, right: Value) -> bool:
    if isinstance(left, list | dict) or isinstance(right, list | dict):
        return False
    if isinstance(left, str) and isinstance(right, str):
        return left.upper() < right.upper()
    return not (left is None and right is None) and as_number(left) < as_number(right)


def _contains(place: Value, item: Value) -> bool:
    if isinstance(place, list):
        return any(equal(item, one) for one in place)
    return _plain(place, item) and _low(item) in _low(place)


def _plain(*values: Value) -> bool:
    return not any(isinstance(value, list | dict) for value in values)


def _low(value: Value) -> str:
    return as_text(value).lower()


def _format(text: str, *given: Value) -> str:
    def part(match: re.Match[str]) -> str:
        return match[0][0] if match[1] is None else as_text(given[int(match[1])])

    return re.sub(r"\{\{|\}\}|\{(\d+)\}", part, text)


def _join(items: Value, separator: str = ",") -> str:
    return separator.join(map(as_text, items)) if isinstance(items, list) else as_text(items)


def _either(left: Node, right: Node) -> Value:
    value = left()
    return value if truthy(value) else right()


def _both(left: Node, right: Node) -> Value:
    value = left()
    return right() if truthy(value) else value


# What stands on the right of `&&` and `||` is evaluated only where it decides.
OPERATORS: dict[str, Callable[[Node, Node], Value]] = {
    "||": _either,
    "&&": _both,
    "==": lambda left, right: equal(left(), right()),
    "!=": lambda left, right: not equal(left(), right()),
    "<": lambda left, right: _below(left(), right()),
    ">": lambda left, right: _below(right(), left()),
    "<=": lambda left, right: equal(left(), right()) or _below(left(), right()),
    ">=": lambda left, right: equal(left(), right()) or _below(right(), left()),
}
COMMON: dict[str, Callable[..., Value]] = {
    "contains": _contains,
    "startsWith": lambda text, start: _plain(text, start) and _low(text).startswith(_low(start)),
    "endsWith": lambda text, end: _plain(text, end) and _low(text).endswith(_low(end)),
    "format": _format,
    "join": _join,
    "toJSON": lambda value: json.dumps(value, indent=2),
    "fromJSON": lambda text: json.loads(text),
}
