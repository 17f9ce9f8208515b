"""The RSGI application: routes, limits, and answers that name the model and the request.

RSGI is the interface of Granian, the server: https://github.com/emmett-framework/granian
"""

from __future__ import annotations

import asyncio
import hmac
import itertools
import logging
import os
import re
import signal
import time
from contextlib import suppress

import msgspec
from granian.rsgi import Headers, HTTPProtocol, ProtocolClosed, Scope  # type: ignore[attr-defined]

from mlops.serving.errors import Refusal
from mlops.serving.routes import OPEN, Request, Response, find
from mlops.serving.service import Endpoint, Service

# What the parent process sends before SIGTERM where requests are drained first.
UNREADY = signal.SIGUSR1
REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}", re.ASCII)
RETRY = {"retry-after": "1"}
log = logging.getLogger("mlops.serving")


class App:
    """The service behind HTTP; `arriving` are the bytes of bodies that are arriving."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.arriving = 0
        self._prefix = os.urandom(6).hex()
        self._count = itertools.count(1)

    def __rsgi_init__(self, loop: asyncio.AbstractEventLoop) -> None:
        """Start, before the first connection is accepted."""
        self.service.start(loop)
        loop.add_signal_handler(UNREADY, setattr, self.service, "stopping", True)

    def __rsgi_del__(self, loop: asyncio.AbstractEventLoop) -> None:
        """Stop, after the last answer."""
        loop.run_until_complete(self.service.stop())
        log.info("stopped", extra={"pid": os.getpid()})

    async def __rsgi__(self, scope: Scope, protocol: HTTPProtocol) -> None:
        """Answer one request."""
        start = time.perf_counter()
        # The request ends with the endpoint that it began with, whatever is loaded meanwhile.
        service, headers = self.service, scope.headers
        endpoint = service.endpoint
        identity = headers.get("x-request-id")
        if not identity or not REQUEST_ID.fullmatch(identity):
            identity = f"{self._prefix}-{next(self._count)}"
        # The server leaves out the body of the answer to HEAD.
        method = "GET" if scope.method == "HEAD" else scope.method
        route = find(method, scope.path, endpoint)
        name = route.name if route else "unknown"
        service.requests += 1
        try:
            self._require_token(scope.path, headers)
            if route is None:
                raise _no_route(scope, endpoint)
            body = b""
            if scope.method == "POST":
                if service.requests > service.settings.requests:
                    raise Refusal(429, f"busy: {service.requests} requests are under way", **RETRY)
                body = await self._body(headers.get("content-length"), protocol)
            response = route.handler(service, Request(endpoint, headers, body, identity))
            if not isinstance(response, Response):
                response = await response
        except Refusal as refusal:
            response = _refused(refusal, identity)
        except Exception:
            log.exception("failed", extra={"request": identity, "route": name})
            response = _refused(Refusal(500, "the service failed; see its log"), identity)
        finally:
            service.requests -= 1
        answer = [("content-type", response.content_type), ("x-request-id", identity)]
        answer += endpoint.headers + response.headers
        if service.stopping:
            answer.append(("connection", "close"))
        # The client may have gone.
        with suppress(ProtocolClosed):
            protocol.response_bytes(response.status, answer, response.body)
        service.metrics.answered(name, response.status, time.perf_counter() - start)

    async def _body(self, declared: str | None, protocol: HTTPProtocol) -> bytes:
        """The whole body; raises Refusal when it is too large, too late, or cut short."""
        reserved = 0
        try:
            async with asyncio.timeout(self.service.settings.body_timeout):
                # A length that is declared is checked by the server.
                if declared is not None:
                    reserved = self._reserve(int(declared), 0)
                    return await protocol()
                parts: list[bytes] = []
                async for part in protocol:
                    reserved = self._reserve(len(part), reserved)
                    parts.append(part)
                return b"".join(parts)
        except TimeoutError:
            raise Refusal(408, "body: did not arrive in time", connection="close") from None
        except ProtocolClosed:
            raise Refusal(400, "body: cut short", connection="close") from None
        finally:
            self.arriving -= reserved

    def _reserve(self, size: int, reserved: int) -> int:
        """Count `size` more bytes of a body; returns the bytes of it so far."""
        settings = self.service.settings
        total = reserved + size
        if total > settings.body:
            # The rest is not read, so the connection can't be used again.
            reason = f"body: found {total} bytes, expected at most {settings.body}"
            raise Refusal(413, reason, connection="close")
        if self.arriving + size > settings.bodies:
            reason = f"busy: {self.arriving} bytes are arriving"
            raise Refusal(429, reason, **RETRY, connection="close")
        self.arriving += size
        return total

    def _require_token(self, path: str, headers: Headers) -> None:
        token = self.service.settings.token
        if not token or path in OPEN:
            return
        kind, _, given = str(headers.get("authorization", "")).partition(" ")
        if kind.lower() != "bearer" or not hmac.compare_digest(given.encode(), token.encode()):
            raise Refusal(401, "authorization: expected the bearer token",
                          **{"www-authenticate": "Bearer"})  # fmt: skip


def _no_route(scope: Scope, endpoint: Endpoint) -> Refusal:
    path = scope.path
    allowed = [method for method in ("GET", "POST") if find(method, path, endpoint)]
    if allowed:
        return Refusal(405, f"{scope.method} {path}: expected {allowed[0]}", allow=allowed[0])
    return Refusal(404, f"{path}: no such path; the model is {endpoint.name!r}, see /docs")


def _refused(refusal: Refusal, identity: str) -> Response:
    body = msgspec.json.encode({"error": refusal.reason, "id": identity})
    return Response(body, status=refusal.status, headers=list(refusal.headers.items()))
