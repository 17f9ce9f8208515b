"""The endpoint's own port: each request goes to one of the deployed bundles, by their weights."""

from __future__ import annotations

import asyncio
import random
import time
from contextlib import suppress

from aiohttp import web

from mlops.deploy.local.backend import NO_ANSWER, Backend

MOST_MIRRORED = 64
# For one attempt, and for all of them with the pauses in between.
TRY_SECONDS, ANSWER_SECONDS, PAUSE_SECONDS = 30.0, 60.0, 0.02


class Router:
    """Sends a request to one bundle, and to another when that does not answer, fails or refuses it.

    Trying again is safe: scoring changes nothing. What one bundle refuses and another answers is a
    failure of the first: their columns differ.
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
        self._mirror(request, response.status)
        return response

    async def _answer(self, request: web.Request) -> web.Response | None:
        deadline = time.monotonic() + ANSWER_SECONDS
        failed: set[str] = set()
        first: tuple[Backend, web.Response] | None = None
        while (left := deadline - time.monotonic()) > 0:
            backend = self._choose(failed)
            if backend is None and first:
                return first[1]
            if backend is None:
                failed.clear()
                await asyncio.sleep(PAUSE_SECONDS)
                continue
            failed.add(backend.digest)
            with suppress(*NO_ANSWER):
                response = await backend.send(request, min(left, TRY_SECONDS))
                if first and response.status < 400 and _is_refusal(first[1].status):
                    first[0].count_refusal()
                if response.status < 400 or response.status == 429:
                    return response
                first = first or (backend, response)
        return first[1] if first else None

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

    def _mirror(self, request: web.Request, status: int) -> None:
        """Send copies to the shadows, which the client does not wait for."""
        for backend in self.backends.values():
            mirrored = request.method == "POST" and 100 * random.random() < backend.deployed.mirror
            if mirrored and backend.process.ready and len(self._shadows) < MOST_MIRRORED:
                task = asyncio.create_task(_send_copy(backend, request, status))
                self._shadows.add(task)
                task.add_done_callback(self._shadows.discard)


async def _send_copy(shadow: Backend, request: web.Request, served: int) -> None:
    # The shadow has counted a copy that it did not answer.
    with suppress(*NO_ANSWER):
        response = await shadow.send(request, TRY_SECONDS)
        if _is_refusal(response.status) and served < 400:
            shadow.count_refusal()


def _is_refusal(status: int) -> bool:
    """Whether this is for the request's own form; a busy service says nothing of that."""
    return 400 <= status < 500 and status != 429
