"""NaN and Infinity: no JSON, but what Python's own encoder writes, and so many a client.

MLflow's client sends a missing value of a data frame as NaN. It is read as null. An infinite
number is read as one too large for any float, which the decoder refuses by row and column.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import msgspec

# A string is found whole, ended or not, so that what stands in it stays as it is, and no
# character is looked at twice.
TOKEN = re.compile(rb'"(?:[^"\\]++|\\.)*+"?|(NaN|Infinity)', re.DOTALL)
MEANING = {b"NaN": b"null", b"Infinity": b"1e999"}


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
        if not any(literal in whole for literal in MEANING):
            raise
        return decoder.decode(b"".join(_meant(whole)))


def _meant(body: bytes) -> Iterator[bytes]:
    end = 0
    for token in TOKEN.finditer(body):
        if token[1]:
            yield body[end : token.start()]
            yield MEANING[token[1]]
            end = token.end()
    yield body[end:]
