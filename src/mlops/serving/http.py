"""A request and its answer, as the handlers see them."""

from __future__ import annotations

from dataclasses import dataclass, field

from mlops.serving.endpoint import Endpoint

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
class Answer:
    """An HTTP answer."""

    body: bytes
    kind: bytes = JSON
    status: int = 200
    headers: Headers = field(default_factory=list)
