"""The ASGI application: routes, limits, and answers that say who answered."""

from __future__ import annotations

import asyncio
import gc
import hmac
import itertools
import logging
import os
import re
import signal
import time
from collections.abc import Awaitable, Callable, MutableMapping
from types import FrameType
from typing import Any

import msgspec

from mlops.serving.endpoint import Endpoint
from mlops.serving.errors import Refusal
from mlops.serving.http import JSON, Answer, Head, Headers, Request
from mlops.serving.patience import Patience
from mlops.serving.routes import MODEL_ROUTES, OPEN, ROUTES, Handler
from mlops.serving.service import Service

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
IDENTITY = re.compile(rb"[A-Za-z0-9._:-]{1,128}")
log = logging.getLogger("mlops.serving")


class App:
    """The service behind HTTP."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.busy = self.held = 0
        self.patience = Patience(service.settings.patience)
        # What heads say that came before, for `shortcut`.
        self.heads: dict[bytes, Head] = {}
        self._prefix = os.urandom(6).hex()
        self._count = itertools.count(1)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "http":
            await self._http(scope, receive, send)

    async def _live(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                self.service.start()
                self.patience.start()
                _drain_first(self.service)
                # What is loaded stays: the collector need not look at it again and again.
                gc.freeze()
                await send({"type": "lifespan.startup.complete"})
            elif message["type"] == "lifespan.shutdown":
                await self.service.stop()
                await send({"type": "lifespan.shutdown.complete"})
                return

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        begun = time.perf_counter()
        # What is in use now answers this request to its end, whatever is loaded meanwhile.
        endpoint = self.service.endpoint
        headers = dict(scope["headers"])
        identity = self.identity(headers)
        name, handler = self._route(scope, endpoint)
        self.busy += 1
        try:
            answer = await self._answer(handler, endpoint, headers, identity, scope, receive)
        except Refusal as refusal:
            answer = _refused(refusal, identity)
        except Hung:
            return
        except Exception:
            log.exception("failed", extra={"request": identity, "route": name})
            answer = _refused(Refusal(500, "the service failed; its log says how"), identity)
        finally:
            self.busy -= 1
        if self.service.stopping:
            answer.headers.append((b"connection", b"close"))
        await _send(send, answer, endpoint.headers, identity)
        self.service.metrics.answered(name, answer.status, time.perf_counter() - begun)

    async def _answer(
        self,
        handler: Handler | None,
        endpoint: Endpoint,
        headers: dict[bytes, bytes],
        identity: str,
        scope: Scope,
        receive: Receive,
    ) -> Answer:
        self.require_token(scope["path"], headers)
        if handler is None:
            raise _no_route(scope, endpoint)
        if scope["method"] != "POST":
            return await handler(self.service, Request(endpoint, headers, b"", identity))
        if self.busy > self.service.settings.requests:
            raise Refusal(429, f"busy: {self.busy} requests are under way", **{"retry-after": "1"})
        with self.patience:
            body = await self._body(headers, receive)
        return await handler(self.service, Request(endpoint, headers, body, identity))

    async def _body(self, headers: dict[bytes, bytes], receive: Receive) -> bytes:
        limit = self.service.settings.body
        said = headers.get(b"content-length", b"0")
        if said.isdigit() and int(said) > limit:
            raise _too_large(int(said), limit)
        message = await self._next(receive)
        if not message.get("more_body"):
            body: bytes = message.get("body", b"")
            return _limited(body, limit)
        return await self._pieces(message, receive)

    async def _pieces(self, message: MutableMapping[str, Any], receive: Receive) -> bytes:
        """A body that arrives bit by bit; what all of them hold together is limited too."""
        settings, parts, held = self.service.settings, [message.get("body", b"")], 0
        try:
            while message.get("more_body"):
                held += len(parts[-1])
                self.held += len(parts[-1])
                if self.held > settings.bodies:
                    raise Refusal(429, f"busy: {self.held} bytes are arriving",
                                  **{"retry-after": "1", "connection": "close"})  # fmt: skip
                message = await self._next(receive)
                parts.append(message.get("body", b""))
                _limited(b"", settings.body, held + len(parts[-1]))
            return b"".join(parts)
        finally:
            self.held -= held

    async def _next(self, receive: Receive) -> MutableMapping[str, Any]:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Hung
        return message

    def identity(self, headers: dict[bytes, bytes]) -> str:
        """The client's own name of a request, or a new one."""
        given = headers.get(b"x-request-id")
        if given and IDENTITY.fullmatch(given):
            return given.decode()
        return f"{self._prefix}-{next(self._count)}"

    def _route(self, scope: Scope, endpoint: Endpoint) -> tuple[str, Handler | None]:
        # The server leaves out the body of what a HEAD is answered.
        method = "GET" if scope["method"] == "HEAD" else scope["method"]
        found = ROUTES.get((method, scope["path"]))
        if found:
            return found
        rest = endpoint.below(scope["path"])
        return MODEL_ROUTES.get((method, rest), ("unknown", None))

    def require_token(self, path: str, headers: dict[bytes, bytes]) -> None:
        """Raise Refusal unless the client may ask for the path."""
        wanted = self.service.settings.token
        if not wanted or path in OPEN:
            return
        kind, _, given = headers.get(b"authorization", b"").partition(b" ")
        if kind.lower() != b"bearer" or not hmac.compare_digest(given, wanted.encode()):
            raise Refusal(401, "authorization: expected the bearer token",
                          **{"www-authenticate": "Bearer"})  # fmt: skip


def _drain_first(service: Service) -> None:
    """Have SIGTERM make the service unready, and stop it only later; a second one stops it."""
    if not service.settings.drain:
        return
    stop: Any = signal.getsignal(signal.SIGTERM)
    loop = asyncio.get_running_loop()

    def later(number: int, frame: FrameType | None) -> None:
        if service.stopping:
            stop(number, frame)
        service.stopping = True
        delay = service.settings.drain
        loop.call_soon_threadsafe(loop.call_later, delay, stop, number, frame)

    signal.signal(signal.SIGTERM, later)


class Hung(Exception):
    """The client has hung up."""


async def _send(send: Send, answer: Answer, known: Headers, identity: str) -> None:
    headers = head(answer, known, identity)
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body})


def head(answer: Answer, known: Headers, identity: str) -> Headers:
    """An answer's headers; `known` are the endpoint's own."""
    return [
        (b"content-type", answer.kind),
        (b"content-length", b"%d" % len(answer.body)),
        (b"x-request-id", identity.encode()),
        *known,
        *answer.headers,
    ]


def _refused(refusal: Refusal, identity: str) -> Answer:
    body = msgspec.json.encode({"error": refusal.reason, "id": identity})
    headers = [(name.encode(), value.encode()) for name, value in refusal.headers.items()]
    return Answer(body, JSON, refusal.status, headers)


def _no_route(scope: Scope, endpoint: Endpoint) -> Refusal:
    path, rest = scope["path"], endpoint.below(scope["path"])
    allowed = [m for m in ("GET", "POST") if (m, path) in ROUTES or (m, rest) in MODEL_ROUTES]
    if allowed:
        method = scope["method"]
        return Refusal(405, f"{method} {path}: expected {allowed[0]}", allow=allowed[0])
    return Refusal(404, f"{path}: no such path; the model is {endpoint.name!r}, see /docs")


def _too_large(found: int, limit: int) -> Refusal:
    # What follows is not read: the connection can't be used again.
    return Refusal(413, f"body: found {found} bytes, expected at most {limit}", connection="close")


def _limited(body: bytes, limit: int, size: int = 0) -> bytes:
    if max(size, len(body)) > limit:
        raise _too_large(max(size, len(body)), limit)
    return body
