"""The endpoint's own port: each request goes to one of the deployed bundles, by their weights."""

from __future__ import annotations

import asyncio
import math
import random
import time
from typing import Any

import msgspec
from aiohttp import web

from mlops.deploy.local.backend import NO_ANSWER, Backend

MOST_MIRRORED = 64
# For one attempt, and for all of them with the pauses in between.
TRY_SECONDS, ANSWER_SECONDS, PAUSE_SECONDS = 30.0, 60.0, 0.02
# Between numbers that two processes compute from equal inputs.
TOLERANCE = 1e-6


class Router:
    """Sends a request to one bundle, and to another when that does not answer.

    Trying again is safe: scoring changes nothing.
    """

    def __init__(self) -> None:
        self.backends: dict[str, Backend] = {}
        self._shadows: set[asyncio.Task[None]] = set()

    async def handle(self, request: web.Request) -> web.Response:
        """Answer one request."""
        await request.read()
        response = await self._answer(request)
        if response is None:
            error = {"error": "no process of this endpoint answers"}
            return web.json_response(error, status=503, headers={"retry-after": "1"})
        self._mirror(request, response)
        return response

    async def _answer(self, request: web.Request) -> web.Response | None:
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
        """One by the weights; when that is not ready, the ready one of the greatest weight."""
        weights = {name: b.deployed.percent for name, b in self.backends.items()}
        ready = [
            name for name, backend in self.backends.items()
            if backend.process.ready and weights[name] and name not in failed
        ]  # fmt: skip
        if not ready:
            return None
        chosen = random.choices(list(weights), list(weights.values()))[0]
        if chosen in ready:
            return self.backends[chosen]
        if chosen not in failed and self.backends[chosen].process.tried:
            self.backends[chosen].count_missed()
        return self.backends[max(ready, key=lambda name: weights[name])]

    def _mirror(self, request: web.Request, response: web.Response) -> None:
        """Send copies to the shadows, which the client does not wait for."""
        for backend in self.backends.values():
            mirrored = request.method == "POST" and 100 * random.random() < backend.deployed.mirror
            if mirrored and backend.process.ready and len(self._shadows) < MOST_MIRRORED:
                task = asyncio.create_task(_compare(backend, request, response))
                self._shadows.add(task)
                task.add_done_callback(self._shadows.discard)


async def _compare(shadow: Backend, request: web.Request, served: web.Response) -> None:
    try:
        response = await shadow.send(request, TRY_SECONDS)
    except NO_ANSWER:
        return
    if served.status == 200:
        shadow.process.compared += 1
        same = response.status == 200 and not differ(_body(served), _body(response))
        shadow.process.differing += not same


def _body(response: web.Response) -> bytes:
    assert isinstance(response.body, bytes)
    return response.body


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
