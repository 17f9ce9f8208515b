"""An RSGI application called as Granian calls it, without a server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from mlops.serving.app import App
from tests.served import Reply


@dataclass(frozen=True)
class Scope:
    """A request's head."""

    method: str
    path: str
    headers: dict[str, str]


@dataclass
class Protocol:
    """A request's body, in parts, and the response to it."""

    parts: list[bytes]
    replies: list[Reply] = field(default_factory=list)

    async def __call__(self) -> bytes:
        return b"".join(self.parts)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for part in self.parts:
            yield part

    def response_bytes(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        self.replies.append(Reply(status, body, dict(headers)))


class Client:
    """Sends requests to an application, one after the other or at once."""

    def __init__(self, app: App) -> None:
        self.app = app
        self.loop = asyncio.new_event_loop()

    def get(self, path: str, **headers: str) -> Reply:
        return self.send("GET", path, b"", headers)

    def post(self, path: str, body: Any, headers: dict[str, str] | None = None) -> Reply:
        """Anything but bytes is sent as JSON."""
        return self.send("POST", path, encoded(body), headers or {})

    def send(
        self, method: str, path: str, body: bytes | Sequence[bytes], headers: dict[str, str]
    ) -> Reply:
        """A body of several parts is sent in chunks, without a length."""
        return self.loop.run_until_complete(self.call(method, path, body, headers))

    def at_once(self, path: str, bodies: Sequence[Any]) -> list[Reply]:
        """The responses to requests that arrive together, in their order."""

        async def all_of_them() -> list[Reply]:
            calls = (self.call("POST", path, encoded(body), {}) for body in bodies)
            return await asyncio.gather(*calls)

        return self.loop.run_until_complete(all_of_them())

    async def call(
        self, method: str, path: str, body: bytes | Sequence[bytes], headers: dict[str, str]
    ) -> Reply:
        named = {name.lower(): value for name, value in headers.items()}
        if isinstance(body, bytes):
            named.setdefault("content-length", str(len(body)))
        protocol = Protocol([body] if isinstance(body, bytes) else list(body))
        await self.app.__rsgi__(Scope(method, unquote(path), named), protocol)
        (reply,) = protocol.replies
        return reply


def encoded(body: Any) -> bytes:
    return body if isinstance(body, bytes) else json.dumps(body).encode()
