"""An ASGI application called as a server calls it, without one."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from mlops.serving.app import App


@dataclass(frozen=True)
class Reply:
    """An HTTP answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> str:
        return str(self.json["error"])


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
        """A body of several parts is sent chunk by chunk."""
        return self.loop.run_until_complete(self.call(method, path, body, headers))

    def at_once(self, path: str, bodies: Sequence[Any]) -> list[Reply]:
        """The answers to requests that arrive together, in their order."""

        async def all_of_them() -> list[Reply]:
            calls = (self.call("POST", path, encoded(body), {}) for body in bodies)
            return await asyncio.gather(*calls)

        return self.loop.run_until_complete(all_of_them())

    async def call(
        self, method: str, path: str, body: bytes | Sequence[bytes], headers: dict[str, str]
    ) -> Reply:
        parts = [body] if isinstance(body, bytes) else list(body)
        sent: list[dict[str, Any]] = [
            {"type": "http.request", "body": part, "more_body": place < len(parts) - 1}
            for place, part in enumerate(parts)
        ]
        answers: list[Any] = []

        async def receive() -> dict[str, Any]:
            return sent.pop(0) if sent else {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            answers.append(message)

        await self.app(_scope(method, path, headers), receive, send)
        head, *rest = answers
        return Reply(
            head["status"],
            {name.decode(): value.decode() for name, value in head["headers"]},
            b"".join(part["body"] for part in rest),
        )


def encoded(body: Any) -> bytes:
    return body if isinstance(body, bytes) else json.dumps(body).encode()


def _scope(method: str, path: str, headers: dict[str, str]) -> dict[str, Any]:
    names = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()]
    return {"type": "http", "method": method, "path": unquote(path), "headers": names}
