"""A request and its answer, as the handlers see them.

Structs of msgspec, as `Rows` is: a data class that is frozen takes ten times as long to make.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from mlops.contract.bundle import Array
from mlops.serving.endpoint import Endpoint
from mlops.serving.model import Batch
from mlops.serving.rows import Rows

Headers = list[tuple[bytes, bytes]]
JSON = b"application/json"


class Request(msgspec.Struct, frozen=True):
    """What a handler needs to know of a request."""

    endpoint: Endpoint
    headers: dict[bytes, bytes]
    body: bytes
    identity: str


class Head(msgspec.Struct, frozen=True):
    """What a request's head says: its path, headers, and the length of its body."""

    path: str
    headers: dict[bytes, bytes]
    length: int


class Answer(msgspec.Struct, frozen=True):
    """An HTTP answer."""

    body: bytes
    kind: bytes = JSON
    status: int = 200
    headers: Headers = []


class Question(msgspec.Struct, frozen=True):
    """What a request asks: rows to score, and how their outputs are answered. `identity` is what
    the rows' samples call the request."""

    rows: Rows | Batch
    identity: str
    answer: Callable[[list[Array]], Answer]
