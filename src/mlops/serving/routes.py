"""Every path of the service and what answers it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import lru_cache
from typing import Any

import msgspec

from mlops.contract.bundle import Array
from mlops.serving import metrics, openapi, page
from mlops.serving.errors import Refusal
from mlops.serving.http import Answer, Question, Request
from mlops.serving.service import Service

BINARY = b"application/octet-stream"
LENGTH = b"inference-header-content-length"
# Whoever watches over the process needs no token.
OPEN = {"/ping", "/health", "/v2/health/live", "/v2/health/ready"}

Handler = Callable[[Service, Request], Awaitable[Answer]]
Reader = Callable[[Request], Question]


def _kind(headers: dict[bytes, bytes], *expected: str) -> str:
    kind = _plain(headers.get(b"content-type", b"application/json"))
    if kind not in expected:
        raise Refusal(415, f"content-type: found {kind!r}, expected {' or '.join(expected)}")
    if headers.get(b"content-encoding", b"identity") != b"identity":
        raise Refusal(415, "content-encoding: expected identity")
    return kind


@lru_cache(64)
def _plain(kind: bytes) -> str:
    """A content type without its parameters."""
    return kind.partition(b";")[0].strip().lower().decode("latin-1")


def _predict(request: Request) -> Question:
    _kind(request.headers, "application/json")
    plain, identity = request.endpoint.plain, request.identity

    def answer(outputs: list[Array]) -> Answer:
        return Answer(plain.encode(outputs, identity))

    return Question(plain.decode(request.body), identity, answer)


def _invocations(request: Request) -> Question:
    kind = _kind(request.headers, "application/json", "text/csv")
    invocations = request.endpoint.invocations

    def answer(outputs: list[Array]) -> Answer:
        return Answer(invocations.encode(outputs))

    return Question(invocations.decode(request.body, kind), request.identity, answer)


def _infer(request: Request) -> Question:
    _kind(request.headers, "application/json", "application/octet-stream")
    inference, identity = request.endpoint.inference, request.identity
    asked, rows = inference.decode(request.body, _length(request.headers))

    def answer(outputs: list[Array]) -> Answer:
        body, head = inference.encode(outputs, asked, identity)
        if not head:
            return Answer(body)
        return Answer(body, BINARY, headers=[(LENGTH, str(head).encode())])

    return Question(rows, asked.id or identity, answer)


def _scoring(read: Reader) -> Handler:
    """A handler that scores what the reader makes of a request."""

    async def handler(service: Service, request: Request) -> Answer:
        question = read(request)
        outputs = await service.score(request.endpoint, question.rows, question.identity)
        return question.answer(outputs)

    return handler


def _length(headers: dict[bytes, bytes]) -> int | None:
    found = headers.get(LENGTH)
    if found is None:
        return None
    # More digits than any length has: Python would not read them all.
    if not found.isdigit() or len(found) > 18:
        raise Refusal(400, "Inference-Header-Content-Length: expected a number of bytes")
    return int(found)


def _said(content: Any) -> Answer:
    return Answer(msgspec.json.encode(content))


async def _alive(service: Service, request: Request) -> Answer:
    return _said({"live": True})


async def _ready(service: Service, request: Request) -> Answer:
    if service.stopping:
        raise Refusal(503, "the service is stopping")
    return _said({"ready": True, "name": request.endpoint.name})


async def _ping(service: Service, request: Request) -> Answer:
    await _ready(service, request)
    return Answer(b"\n", b"text/plain")


async def _version(service: Service, request: Request) -> Answer:
    return Answer(request.endpoint.server["version"].encode(), b"text/plain")


async def _server(service: Service, request: Request) -> Answer:
    return _said(request.endpoint.server)


async def _model(service: Service, request: Request) -> Answer:
    return _said(request.endpoint.metadata)


async def _card(service: Service, request: Request) -> Answer:
    return _said(request.endpoint.about)


async def _metrics(service: Service, request: Request) -> Answer:
    return Answer(service.metrics.render(), metrics.CONTENT_TYPE.encode())


async def _openapi(service: Service, request: Request) -> Answer:
    return _said(openapi.document(request.endpoint.model))


async def _docs(service: Service, request: Request) -> Answer:
    return Answer(page.page(request.endpoint.model).encode(), b"text/html; charset=utf-8")


# What is posted to be scored, by path, and by what follows the model's own path.
READERS: dict[str, tuple[str, Reader]] = {
    "/predict": ("predict", _predict),
    "/invocations": ("invocations", _invocations),
}
MODEL_READERS: dict[str | None, tuple[str, Reader]] = {"/infer": ("v2 infer", _infer)}

ROUTES: dict[tuple[str, str], tuple[str, Handler]] = {
    **{("POST", path): (name, _scoring(read)) for path, (name, read) in READERS.items()},
    ("GET", "/ping"): ("ping", _ping),
    ("GET", "/health"): ("ping", _ping),
    ("GET", "/version"): ("version", _version),
    ("GET", "/model"): ("model", _card),
    ("GET", "/metrics"): ("metrics", _metrics),
    ("GET", "/openapi.json"): ("openapi", _openapi),
    ("GET", "/docs"): ("docs", _docs),
    ("GET", "/v2"): ("v2", _server),
    # As the protocol's own OpenAPI writes it.
    ("GET", "/v2/"): ("v2", _server),
    ("GET", "/v2/health/live"): ("live", _alive),
    ("GET", "/v2/health/ready"): ("ready", _ready),
}
# Below /v2/models/NAME, with or without /versions/VERSION.
MODEL_ROUTES: dict[tuple[str, str | None], tuple[str, Handler]] = {
    ("GET", ""): ("v2 model", _model),
    ("GET", "/ready"): ("ready", _ready),
    **{("POST", rest): (name, _scoring(read)) for rest, (name, read) in MODEL_READERS.items()},
}
