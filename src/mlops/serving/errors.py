"""What is wrong with a request: an HTTP status and one line that says where and why."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from typing import Any

import msgspec

from mlops.base.errors import nearest

Decoder = msgspec.json.Decoder[Any]
Body = bytes | memoryview | msgspec.Raw
# A refusal repeats at most so many characters of what a client sent.
LONGEST_REASON = 500
LONGEST_NAME = 80
# Constants that Python's encoder writes, MLflow's client among others, though they are no JSON.
# NaN is a missing value; an infinite number is one that no float32 holds.
CONSTANTS = {"NaN": None, "Infinity": sys.float_info.max, "-Infinity": -sys.float_info.max}
# msgspec's messages: "Expected `str | null`, got `int` - at `$[0].city`".
MESSAGE = re.compile(r"(.*?)(?: - at `\$(.*)`)?", re.DOTALL)
TYPES = re.compile(r"Expected `(.+)`, got `(.+)`")
FIELD = re.compile(r"Object (missing required|contains unknown) field `(.*)`", re.DOTALL)
CELL = re.compile(r"\[(\d+)\]\[(\d+)\]")
# Its types in the words of JSON; of a lone record or many the record is what is expected.
KINDS = {"str": "string", "int": "number", "float": "number", "bool": "boolean"}
KINDS["object | array"] = "object"


class Refusal(Exception):
    """A request that is not scored; `headers` go with the answer."""

    def __init__(self, status: int, reason: str, **headers: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason if len(reason) <= LONGEST_REASON else f"{reason[:LONGEST_REASON]}…"
        self.headers = headers


def decode(
    decoder: Decoder, body: Body, place: str = "", columns: Sequence[str] = (), lone: bool = False
) -> Any:
    """Decode JSON, with Python's constants NaN and Infinity; raises Refusal.

    `place` is where a request has this JSON. Records have fields named `columns`, rows have values
    in their order; `lone` where all of the JSON may be one record.
    """
    try:
        return _decoded(decoder, body)
    except RecursionError:
        raise Refusal(400, "body: nested too deeply") from None
    except UnicodeDecodeError as error:
        raise Refusal(400, f"body: not UTF-8: {error.reason}") from None
    except msgspec.ValidationError as error:
        text = str(error)
    except msgspec.DecodeError as error:
        raise Refusal(400, f"body: {error}") from None
    reason, path = MESSAGE.fullmatch(text).groups("")  # type: ignore[union-attr]
    if columns:
        path = CELL.sub(lambda match: f"[{match[1]}].{columns[int(match[2])]}", path)
    where = f"{place}{path}".lstrip(".") or "body"
    if types := TYPES.fullmatch(reason):
        expected, found = map(_kinds, types.groups())
        raise Refusal(422, f"{where}: found {found}, expected {expected}")
    if (lone or path.endswith("]")) and (field := FIELD.fullmatch(reason)):
        missing = field[1].startswith("missing")
        wrong = f"column {field[2]!r}: missing" if missing else unknown_column(field[2], columns)
        raise Refusal(422, f"{where}: {wrong}")
    raise Refusal(422, f"{where}: {reason}")


def _kinds(types: str) -> str:
    return KINDS.get(types) or " or ".join(KINDS.get(name, name) for name in types.split(" | "))


def _decoded(decoder: Decoder, body: Body) -> Any:
    try:
        return decoder.decode(body)
    except msgspec.DecodeError as error:
        whole = bytes(body)
        wrong = isinstance(error, msgspec.ValidationError)
        if wrong or not any(name.encode() in whole for name in CONSTANTS):
            raise
    text = whole.decode()
    try:
        content = json.loads(text, parse_constant=CONSTANTS.__getitem__)
        return decoder.decode(msgspec.json.encode(content))
    except msgspec.DecodeError:
        raise
    # Not JSON, a lone surrogate, or a number longer than any integer.
    except (ValueError, OverflowError) as error:
        raise msgspec.DecodeError(str(error)) from None


def unknown_column(name: str, columns: Sequence[str]) -> str:
    """The message for a column that the model does not have, with the nearest that it has."""
    if len(name) > LONGEST_NAME:
        # Finding the nearest of a long name takes long.
        return f"unknown column {name[:LONGEST_NAME]!r}…"
    return f"unknown column {name!r}{nearest(name, columns)}"


def too_many_rows(found: str, most: int) -> Refusal:
    """The refusal of more rows than are allowed."""
    return Refusal(413, f"body: found {found} rows, expected at most {most}")
