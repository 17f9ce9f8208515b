"""What a client did wrong, as the status and the line that it is answered with."""

from __future__ import annotations

import re

import msgspec

from mlops.base.errors import nearest

PLACE = re.compile(r" - at `\$(?P<path>.*)`$", re.DOTALL)
NAMES = {"float": "number", "int": "number", "str": "string", "bool": "boolean", "null": "null"}
# What a decoder raises: it is no DecodeError where a string is not UTF-8.
BROKEN = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
# Of what a client sent, so much is said back to it.
LONGEST = 500
LONGEST_NAME = 80


class Refusal(Exception):
    """A request that is not scored: an HTTP status and one line that says why."""

    def __init__(self, status: int, reason: str, **headers: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason if len(reason) <= LONGEST else f"{reason[:LONGEST]}…"
        self.headers = headers


def malformed(
    error: Exception, within: str = "", columns: tuple[str, ...] = (), root: str = "field"
) -> Refusal:
    """What is said of a body that could not be decoded.

    `columns` names positions in a row, `root` says what the names in the outermost object are.
    """
    if isinstance(error, RecursionError):
        return Refusal(400, "body: nested too deeply")
    if isinstance(error, UnicodeDecodeError):
        return Refusal(400, f"body: not UTF-8: {error.reason}")
    if not isinstance(error, msgspec.ValidationError):
        return Refusal(400, f"body: not JSON: {_json(error)}")
    text = str(error)
    found = PLACE.search(text)
    path = within + (found["path"] if found else "")
    said = text[: found.start()] if found else text
    noun = "column" if "[" in path and columns else root
    return Refusal(422, f"{_place(path, columns)}: {_plain(said, noun, columns)}")


def unknown(name: str, known: tuple[str, ...], noun: str = "column") -> str:
    """What is said of a name that is not known."""
    if len(name) > LONGEST_NAME:
        # To look for the nearest of a long name takes long.
        return f"unknown {noun} {name[:LONGEST_NAME]!r}…"
    return f"unknown {noun} {name!r}{nearest(name, known if noun == 'column' else ())}"


def _json(error: Exception) -> str:
    said = str(error).removeprefix("JSON is malformed: ")
    return said[:1].lower() + said[1:]


def _place(path: str, columns: tuple[str, ...]) -> str:
    """`data[3][7]` as `data[3].temp`: the row's number and the column's name."""
    row = re.fullmatch(r"(.*\[\d+\])\[(\d+)\]", path)
    if row and columns and int(row[2]) < len(columns):
        path = f"{row[1]}.{columns[int(row[2])]}"
    return path.lstrip(".").replace("[...]", "") or "body"


def _plain(said: str, noun: str, columns: tuple[str, ...]) -> str:
    """msgspec's own words in those of the fields they speak of."""
    kind = re.match(r"Expected `(.*)`, got `(.*)`$", said)
    if kind:
        return f"found {_kind(kind[2])}, expected {_kind(kind[1])}"
    length = re.match(r"Expected `array` of length (\d+)$", said)
    if length:
        return f"expected {length[1]} values"
    absent = re.match(r"Object missing required field `(.*)`$", said)
    if absent:
        return f"{noun} {absent[1]!r}: missing"
    extra = re.match(r"Object contains unknown field `(.*)`$", said, re.DOTALL)
    if extra:
        return unknown(extra[1], columns, noun)
    return said[:1].lower() + said[1:].replace("`", "'")


def _kind(text: str) -> str:
    return " or ".join(NAMES.get(name, name) for name in text.split(" | "))
