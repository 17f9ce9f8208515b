"""A request and its answer, as the handlers see them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from mlops.core.bundle import Array
from mlops.serving.endpoint import Endpoint
from mlops.serving.model import Batch
from mlops.serving.rows import Rows

Headers = list[tuple[bytes, bytes]]
JSON = b"application/json"


@dataclass(frozen=True)
class Request:
    """What a handler needs to know of a request."""

    endpoint: Endpoint
    headers: dict[bytes, bytes]
    body: bytes
    identity: str


@dataclass(frozen=True)
class Head:
    """What a request's head says: its path, headers, and the length of its body."""

    path: str
    headers: dict[bytes, bytes]
    length: int


@dataclass(frozen=True)
class Answer:
    """An HTTP answer."""

    body: bytes
    kind: bytes = JSON
    status: int = 200
    headers: Headers = field(default_factory=list)


@dataclass(frozen=True)
class Question:
    """What a request asks: rows to score, and how their outputs are answered. `identity` is what
    the rows' samples call the request."""

    rows: Rows | Batch
    identity: str
    answer: Callable[[list[Array]], Answer]
