"""Every path of the service and its handler."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import msgspec

from mlops.serving import metrics, page
from mlops.serving.endpoint import Endpoint
from mlops.serving.errors import Refusal
from mlops.serving.service import Service

if TYPE_CHECKING:
    from granian.rsgi import Headers  # type: ignore[attr-defined]

JSON, CSV, BINARY = "application/json", "text/csv", "application/octet-stream"
LENGTH = "inference-header-content-length"
# Probes need no token.
OPEN = {"/ping", "/health", "/v2/health/live", "/v2/health/ready"}


# Structs of msgspec: a frozen data class takes ten times as long to make.
class Request(msgspec.Struct, frozen=True):
    """A request as a handler sees it; `identity` is its id."""

    endpoint: Endpoint
    headers: Headers
    body: bytes
    identity: str


class Response(msgspec.Struct, frozen=True):
    """An HTTP response."""

    body: bytes
    content_type: str = JSON
    status: int = 200
    headers: list[tuple[str, str]] = []


Handler = Callable[[Service, Request], Response | Awaitable[Response]]


async def _predict(service: Service, request: Request) -> Response:
    _content_type(request.headers, JSON)
    predict, identity = request.endpoint.predict, request.identity
    rows = predict.decode(request.body)
    outputs = await service.score(request.endpoint, rows, identity)
    return Response(predict.encode(outputs, identity))


async def _invocations(service: Service, request: Request) -> Response:
    content_type = _content_type(request.headers, JSON, CSV)
    invocations = request.endpoint.invocations
    rows = invocations.decode(request.body, content_type)
    outputs = await service.score(request.endpoint, rows, request.identity)
    return Response(invocations.encode(outputs))


async def _infer(service: Service, request: Request) -> Response:
    _content_type(request.headers, JSON, BINARY)
    inference, identity = request.endpoint.inference, request.identity
    content, rows = inference.decode(request.body, _length(request.headers))
    outputs = await service.score(request.endpoint, rows, content.id or identity)
    body, length = inference.encode(outputs, content, identity)
    if not length:
        return Response(body)
    return Response(body, BINARY, headers=[(LENGTH, str(length))])


def _content_type(headers: Headers, *expected: str) -> str:
    """The content type without its parameters; raises Refusal unless it is an expected one."""
    found = _without_parameters(headers.get("content-type", JSON))
    if found not in expected:
        raise Refusal(415, f"content-type: found {found!r}, expected {' or '.join(expected)}")
    if headers.get("content-encoding", "identity") != "identity":
        raise Refusal(415, "content-encoding: expected identity")
    return found


@lru_cache(64)
def _without_parameters(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()


def _length(headers: Headers) -> int | None:
    length = headers.get(LENGTH)
    if length is None:
        return None
    # More digits than any length has: Python would not read them all.
    if not length.isdecimal() or len(length) > 18:
        raise Refusal(400, "Inference-Header-Content-Length: expected a number of bytes")
    return int(length)


def _ready(service: Service, request: Request) -> Response:
    if service.stopping:
        raise Refusal(503, "the service is stopping")
    return _json({"ready": True, "name": request.endpoint.name})


def _ping(service: Service, request: Request) -> Response:
    _ready(service, request)
    return Response(b"\n", "text/plain")


def _json(content: Any) -> Response:
    return Response(msgspec.json.encode(content))


def _text(content: str, content_type: str = "text/plain") -> Response:
    return Response(content.encode(), content_type)


# By method and path: the route's name in metrics, and its handler.
ROUTES: dict[tuple[str, str], tuple[str, Handler]] = {
    ("POST", "/predict"): ("predict", _predict),
    ("POST", "/invocations"): ("invocations", _invocations),
    ("GET", "/ping"): ("ping", _ping),
    ("GET", "/health"): ("ping", _ping),
    ("GET", "/version"): ("version", lambda _, request: _text(request.endpoint.server["version"])),
    ("GET", "/model"): ("model", lambda _, request: _json(request.endpoint.about)),
    ("GET", "/metrics"): (
        "metrics", lambda service, _: Response(service.metrics.render(), metrics.CONTENT_TYPE)
    ),
    ("GET", "/openapi.json"): ("openapi", lambda _, request: _json(request.endpoint.openapi)),
    ("GET", "/docs"): ("docs", lambda _, request: _text(request.endpoint.page, page.HTML)),
    ("GET", "/v2"): ("v2", lambda _, request: _json(request.endpoint.server)),
    # As the protocol's own OpenAPI writes it.
    ("GET", "/v2/"): ("v2", lambda _, request: _json(request.endpoint.server)),
    ("GET", "/v2/health/live"): ("live", lambda _, request: _json({"live": True})),
    ("GET", "/v2/health/ready"): ("ready", _ready),
}  # fmt: skip
# Below /v2/models/NAME, with or without /versions/VERSION.
MODEL_ROUTES: dict[tuple[str, str | None], tuple[str, Handler]] = {
    ("GET", ""): ("v2 model", lambda _, request: _json(request.endpoint.metadata)),
    ("GET", "/ready"): ("ready", _ready),
    ("POST", "/infer"): ("v2 infer", _infer),
}
