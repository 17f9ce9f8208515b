"""The endpoint's own port: each request goes to one of the deployed bundles, by their weights."""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec
from aiohttp import web
from multidict import CIMultiDict

from mlops.base.processes import HOST
from mlops.deploy.local.backend import NO_ANSWER, Backend, Request, Response

BODY_BYTES = 16 * 1024 * 1024
MOST_MIRRORED = 64
# For one attempt, and for all of them with the pauses in between.
TRY_SECONDS, ANSWER_SECONDS, PAUSE_SECONDS = 30.0, 60.0, 0.02
# Between numbers that two processes compute from equal inputs.
TOLERANCE = 1e-6
# Headers that belong to one connection.
HOP = {
    "connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "te", "trailer",
    "transfer-encoding", "upgrade", "content-length", "date", "server", "host", "expect",
}  # fmt: skip


class Weights:
    """Turns that are as fair after a few requests as after many: nginx's smooth round robin."""

    def __init__(self) -> None:
        self._credit: dict[str, int] = {}

    def next(self, weights: Mapping[str, int]) -> str | None:
        """The name whose turn it is; None when none has a weight."""
        total = sum(weights.values())
        if not total:
            return None
        self._credit = {n: self._credit.get(n, 0) + weight for n, weight in weights.items()}
        chosen = max(self._credit, key=lambda name: self._credit[name])
        self._credit[chosen] -= total
        return chosen


class Router:
    """Sends a request to one bundle, and to another when that does not answer.

    Trying again is safe: scoring changes nothing.
    """

    def __init__(self) -> None:
        self.backends: dict[str, Backend] = {}
        self._turns = Weights()
        self._shadows: set[asyncio.Task[None]] = set()

    async def handle(self, incoming: web.Request) -> web.Response:
        """Answer one request."""
        headers, body = _end_to_end(incoming.headers), await incoming.read()
        request = Request(incoming.method, incoming.raw_path, headers, body)
        response = await self._answer(request)
        if response is None:
            error = {"error": "no process of this endpoint answers"}
            return web.json_response(error, status=503, headers={"retry-after": "1"})
        self._mirror(request, response)
        headers = _end_to_end(response.headers)
        return web.Response(body=response.body, status=response.status, headers=headers)

    async def _answer(self, request: Request) -> Response | None:
        deadline = time.monotonic() + ANSWER_SECONDS
        failed: set[str] = set()
        while (left := deadline - time.monotonic()) > 0:
            backend = self._choose(failed)
            if backend is None:
                failed.clear()
                await asyncio.sleep(PAUSE_SECONDS)
                continue
            try:
                return await backend.send(request, min(left, TRY_SECONDS))
            except NO_ANSWER:
                failed.add(backend.digest)
        return None

    def _choose(self, failed: set[str]) -> Backend | None:
        """The bundle whose turn it is; when it is not ready, the one of the greatest weight."""
        weights = {name: b.deployed.percent for name, b in self.backends.items()}
        turn = self._turns.next(weights)
        ready = [
            name for name, backend in self.backends.items()
            if backend.process.ready and weights[name] and name not in failed
        ]  # fmt: skip
        if turn is None or not ready:
            return None
        if turn in ready:
            return self.backends[turn]
        if turn not in failed and self.backends[turn].process.tried:
            self.backends[turn].count_missed()
        return self.backends[max(ready, key=lambda name: weights[name])]

    def _mirror(self, request: Request, response: Response) -> None:
        """Send copies to the shadows, which the client does not wait for."""
        for backend in self.backends.values():
            mirrored = request.method == "POST" and 100 * random.random() < backend.deployed.mirror
            if mirrored and backend.process.ready and len(self._shadows) < MOST_MIRRORED:
                task = asyncio.create_task(_compare(backend, request, response))
                self._shadows.add(task)
                task.add_done_callback(self._shadows.discard)


async def _compare(shadow: Backend, request: Request, served: Response) -> None:
    try:
        response = await shadow.send(request, TRY_SECONDS)
    except NO_ANSWER:
        return
    if served.status == 200:
        shadow.process.compared += 1
        differs = response.status != 200 or differ(served.body, response.body)
        shadow.process.differing += differs


def differ(served: bytes, shadow: bytes) -> bool:
    """Whether two answers, JSON in any of the service's protocols, hold different predictions."""
    try:
        return not _equal(_predictions(served), _predictions(shadow))
    except msgspec.DecodeError:
        return served != shadow


def _predictions(body: bytes) -> Any:
    """The predictions without the request's id and the model's name."""
    content = msgspec.json.decode(body)
    if not isinstance(content, dict):
        return content
    return content.get("predictions", content.get("outputs", content))


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_equal(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_equal, one, other))
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
    return bool(one == other)


def _end_to_end(headers: Mapping[str, str]) -> CIMultiDict[str]:
    return CIMultiDict((k, v) for k, v in headers.items() if k.lower() not in HOP)


async def listen(
    handle: Callable[[web.Request], Awaitable[web.Response]], port: int = 0
) -> tuple[web.AppRunner, int]:
    """Answer every request to a port until the runner is cleaned up; returns it and the port.

    Port 0 is any free one. Raises OSError when the port is taken.
    """
    application = web.Application(client_max_size=BODY_BYTES)
    application.router.add_route("*", "/{path:.*}", handle)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, HOST, port, backlog=2048).start()
    except OSError:
        await runner.cleanup()
        raise
    return runner, int(runner.addresses[0][1])
