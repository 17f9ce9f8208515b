"""NaN and Infinity: no JSON, but what Python's own encoder writes, and so many a client.

MLflow's client sends a missing value of a data frame as NaN. It is read as null. An infinite
number is read as one too large for any float, which the decoder refuses by row and column.
"""

from __future__ import annotations

from typing import Any

import msgspec

MEANING = {b"NaN": b"null", b"Infinity": b"1e999"}
# What stands for a backslash and for a quote in a string while strings are told from the rest:
# bytes that no JSON has.
ESCAPED = {b"\\\\": b"\0\0", b'\\"': b"\1\1"}

# Twice what ten thousand records of fifty columns have; more would take memory without need.
MOST_QUOTES = 2_000_000


def decoded(decoder: msgspec.json.Decoder[Any], body: bytes | memoryview) -> Any:
    """What the decoder makes of a body; raises one of `errors.BROKEN`.

    The body is looked at twice only when it is no JSON.
    """
    try:
        return decoder.decode(body)
    except msgspec.ValidationError:
        raise
    except msgspec.DecodeError:
        whole = bytes(body)
        if not any(word in whole for word in MEANING) or not _can_be_told_apart(whole):
            raise
        return decoder.decode(_meant(whole))


def _can_be_told_apart(body: bytes) -> bool:
    unmarked = not any(mark in body for mark in ESCAPED.values())
    return unmarked and body.count(b'"') <= MOST_QUOTES


def _meant(body: bytes) -> bytes:
    for escaped, mark in ESCAPED.items():
        body = body.replace(escaped, mark)
    parts = body.split(b'"')
    # Every other part is within quotes, and stays as it is.
    for literal, meaning in MEANING.items():
        parts[::2] = [part.replace(literal, meaning) for part in parts[::2]]
    body = b'"'.join(parts)
    for escaped, mark in ESCAPED.items():
        body = body.replace(mark, escaped)
    return body
