"""Every path of the service and its handler."""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import msgspec

from mlops.serving import metrics, openapi, page
from mlops.serving.errors import Refusal
from mlops.serving.invocations import CSV
from mlops.serving.openapi import BINARY, DATATYPES, JSON, Route
from mlops.serving.service import Endpoint, Service

if TYPE_CHECKING:
    from granian.rsgi import Headers  # type: ignore[attr-defined]

TEXT = "text/plain"
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


async def _predict(service: Service, request: Request) -> Response:
    _content_type(request.headers, JSON)
    predict, identity, size = request.endpoint.predict, request.identity, len(request.body)
    rows = await service.call(size, predict.decode, request.body)
    outputs, ages = await service.score(request.endpoint, rows, identity, size)
    body = await service.call(size, predict.encode, outputs, identity, ages)
    return Response(body, headers=_age(ages))


async def _invocations(service: Service, request: Request) -> Response:
    content_type = _content_type(request.headers, JSON, CSV)
    invocations, size = request.endpoint.invocations, len(request.body)
    rows = await service.call(size, invocations.decode, request.body, content_type)
    outputs, ages = await service.score(request.endpoint, rows, request.identity, size)
    body = await service.call(size, invocations.encode, outputs)
    return Response(body, headers=_age(ages))


async def _infer(service: Service, request: Request) -> Response:
    _content_type(request.headers, JSON, BINARY)
    inference, identity, size = request.endpoint.inference, request.identity, len(request.body)
    length = _length(request.headers)
    content, rows = await service.call(size, inference.decode, request.body, length)
    outputs, ages = await service.score(request.endpoint, rows, content.id or identity, size)
    body, length = await service.call(size, inference.encode, outputs, content, identity)
    if not length:
        return Response(body, headers=_age(ages))
    return Response(body, BINARY, headers=[(LENGTH, str(length)), *_age(ages)])


def _age(ages: list[float]) -> list[tuple[str, str]]:
    """The header with the seconds since the oldest looked-up features were made."""
    return [("x-features-age", f"{max(ages):.0f}")] if ages else []


def _content_type(headers: Headers, *expected: str) -> str:
    """The content type without its parameters; raises Refusal unless it is an expected one."""
    found, _, parameters = str(headers.get("content-type", JSON)).lower().partition(";")
    found = found.strip()
    if "charset" in parameters and "utf-8" not in parameters:
        raise Refusal(415, f"content-type: found {parameters.strip()!r}, expected charset=utf-8")
    if found not in expected:
        raise Refusal(415, f"content-type: found {found!r}, expected {' or '.join(expected)}")
    if headers.get("content-encoding", "identity") != "identity":
        raise Refusal(415, "content-encoding: expected identity")
    return found


def _length(headers: Headers) -> int | None:
    length = headers.get(LENGTH)
    if length is None:
        return None
    # No length has more digits, and Python would not read them all.
    if not length.isdecimal() or len(length) > 18:
        raise Refusal(400, "Inference-Header-Content-Length: expected a number of bytes")
    return int(length)


def _ready(service: Service, request: Request) -> Response:
    if service.stopping:
        raise Refusal(503, "the service is stopping")
    return _json({"ready": True, "name": request.endpoint.name})


def _ping(service: Service, request: Request) -> Response:
    _ready(service, request)
    return Response(b"\n", TEXT)


def _about(service: Service, request: Request) -> Response:
    model = request.endpoint.model
    about = {"digest": model.digest, "version": model.version}
    return _json(about | msgspec.to_builtins(model.card))


def _metadata(service: Service, request: Request) -> Response:
    """The model's metadata of the Open Inference Protocol; -1 stands for any number of rows."""
    model = request.endpoint.model
    inputs = [(column.name, DATATYPES[column.type]) for column in model.card.inputs]
    outputs = [(name, "FP32") for name in model.card.outputs]
    about: dict[str, Any] = {"name": model.card.name, "platform": "onnxruntime_onnx"}
    about["versions"] = [model.version] if model.version else []
    for side, tensors in (("inputs", inputs), ("outputs", outputs)):
        about[side] = [{"name": name, "datatype": kind, "shape": [-1]} for name, kind in tensors]
    return _json(about)


def _server(service: Service, request: Request) -> Response:
    extensions = ["binary_tensor_data"]
    return _json({"name": "mlops", "version": version("mlops"), "extensions": extensions})


def _openapi(service: Service, request: Request) -> Response:
    own = {
        (method, f"/v2/models/{request.endpoint.name}{below}"): route
        for (method, below), route in MODEL_ROUTES.items()
    }
    return _json(openapi.document(request.endpoint, ROUTES | own))


def _json(content: Any) -> Response:
    return Response(msgspec.json.encode(content))


ROUTES = {
    ("POST", "/predict"): Route("predict", _predict, "Score one record or many"),
    ("POST", "/invocations"): Route("invocations", _invocations, "Score in MLflow's forms"),
    ("GET", "/ping"): Route("ping", _ping, "Whether it takes requests", TEXT),
    ("GET", "/health"): Route("ping", _ping, "Whether it takes requests", TEXT),
    ("GET", "/version"): Route(
        "version", lambda *_: Response(version("mlops").encode(), TEXT), "The service's version",
        TEXT,
    ),
    ("GET", "/model"): Route("model", _about, "The bundle's card"),
    ("GET", "/metrics"): Route(
        "metrics", lambda service, _: Response(service.metrics.render(), metrics.CONTENT_TYPE),
        "Prometheus' counters", TEXT,
    ),
    ("GET", "/openapi.json"): Route("openapi", _openapi, "This document"),
    ("GET", "/docs"): Route(
        "docs", lambda _, request: Response(page.page(request.endpoint.model).encode(), page.HTML),
        "A page to read", "text/html",
    ),
    ("GET", "/v2"): Route("v2", _server, "The server's name and extensions"),
    # As the protocol's own OpenAPI writes it.
    ("GET", "/v2/"): Route("v2", _server, "The server's name and extensions"),
    ("GET", "/v2/health/live"): Route("live", lambda *_: _json({"live": True}), "Whether it lives"),
    ("GET", "/v2/health/ready"): Route("ready", _ready, "Whether it takes requests"),
}  # fmt: skip
# Below /v2/models/NAME, with or without /versions/VERSION.
MODEL_ROUTES = {
    ("GET", ""): Route("v2 model", _metadata, "The model's inputs and outputs"),
    ("GET", "/ready"): Route("ready", _ready, "Whether the model is ready"),
    ("POST", "/infer"): Route("v2 infer", _infer, "Score by the Open Inference Protocol"),
}  # fmt: skip


def find(method: str, path: str, endpoint: Endpoint) -> Route | None:
    """The route of a request, if there is one."""
    route = ROUTES.get((method, path))
    return route or MODEL_ROUTES.get((method, endpoint.below.get(path, "none")))
