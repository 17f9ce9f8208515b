"""What is wrong with a request: an HTTP status and one line that says where and why."""

from __future__ import annotations

import json
import sys
from typing import Any

import msgspec

from mlops.base.errors import nearest

# What a decoder raises; of bytes that are not UTF-8 it is no DecodeError.
UNDECODABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
# A refusal repeats at most so many characters of what a client sent.
LONGEST_REASON = 500
LONGEST_NAME = 80
# Constants that Python's encoder writes, MLflow's client among others, though they are no JSON.
# NaN is a missing value; an infinite number is one that no float32 holds.
CONSTANTS = {"NaN": None, "Infinity": sys.float_info.max, "-Infinity": -sys.float_info.max}
KINDS = {dict: "object", list: "array", str: "string", bool: "boolean", type(None): "null"}


class Refusal(Exception):
    """A request that is not scored; `headers` go with the answer."""

    def __init__(self, status: int, reason: str, **headers: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason if len(reason) <= LONGEST_REASON else f"{reason[:LONGEST_REASON]}…"
        self.headers = headers


def decode(decoder: msgspec.json.Decoder[Any], body: bytes | memoryview) -> Any:
    """Decode JSON, with Python's constants NaN and Infinity; raises one of `UNDECODABLE`."""
    try:
        return decoder.decode(body)
    except msgspec.ValidationError:
        raise
    except msgspec.DecodeError:
        whole = bytes(body)
        if not any(name.encode() in whole for name in CONSTANTS):
            raise
    return decoder.decode(_without_constants(whole))


def _without_constants(body: bytes) -> bytes:
    try:
        content = json.loads(body.decode(), parse_constant=CONSTANTS.__getitem__)
        return msgspec.json.encode(content)
    except UnicodeDecodeError:
        raise
    # Not JSON, a lone surrogate, or a number longer than any integer.
    except (ValueError, OverflowError) as error:
        raise msgspec.DecodeError(str(error)) from None


def undecodable(error: Exception, place: str = "body") -> Refusal:
    """The refusal of a body that one of `UNDECODABLE` was raised for; where a type is wrong,
    msgspec's message names place, found and expected."""
    if isinstance(error, RecursionError):
        return Refusal(400, "body: nested too deeply")
    if isinstance(error, UnicodeDecodeError):
        return Refusal(400, f"body: not UTF-8: {error.reason}")
    if isinstance(error, msgspec.ValidationError):
        return Refusal(422, f"{place}: {error}")
    return Refusal(400, f"body: {error}")


def require_kind(value: Any, kind: str, place: str) -> None:
    """Raise Refusal unless a decoded value is a "number", "string" or "boolean", or null."""
    found = kind_of(value)
    if found not in (kind, "null"):
        raise Refusal(422, f"{place}: found {found}, expected {kind} or null")


def kind_of(value: Any) -> str:
    """What JSON calls a decoded value."""
    return KINDS.get(type(value), "number")


def unknown_column(name: str, columns: tuple[str, ...]) -> str:
    """The message for a column that the model does not have, with the nearest that it has."""
    if len(name) > LONGEST_NAME:
        # Finding the nearest of a long name takes long.
        return f"unknown column {name[:LONGEST_NAME]!r}…"
    return f"unknown column {name!r}{nearest(name, columns)}"
