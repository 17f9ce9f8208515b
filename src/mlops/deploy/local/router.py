"""The endpoint's own port: each request goes to one of the deployed bundles, by their weights."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress

import aiohttp
from aiohttp import web
from multidict import CIMultiDict

from mlops.deploy.local import shadow
from mlops.deploy.local.backend import Asked, Backend, Said

BODY_BYTES = 16 * 1024 * 1024
MOST_REQUESTS, MOST_MIRRORED = 1024, 64
# One try, and all of them with the waiting in between.
TRY_SECONDS, PATIENCE_SECONDS = 30.0, 60.0
PAUSE = 0.01
HOP = {
    "connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "te", "trailer",
    "transfer-encoding", "upgrade", "content-length", "date", "server", "host", "expect",
}  # fmt: skip


class Weights:
    """Turns that are as fair after a few requests as after many: nginx's smooth round robin."""

    def __init__(self) -> None:
        self._credit: dict[str, int] = {}

    def next(self, weights: dict[str, int]) -> str | None:
        """The name whose turn it is; None when none has a weight."""
        total = sum(weights.values())
        if not total:
            return None
        self._credit = {n: self._credit.get(n, 0) + weight for n, weight in weights.items()}
        chosen = max(self._credit, key=lambda name: self._credit[name])
        self._credit[chosen] -= total
        return chosen


class Router:
    """Asks one bundle, and another one when it does not answer: scoring twice harms nobody."""

    def __init__(self) -> None:
        self.backends: dict[str, Backend] = {}
        self._turns, self._mirrored = Weights(), Weights()
        self._awake = asyncio.Event()
        self._busy = 0
        self._shadows: set[asyncio.Task[None]] = set()

    def use(self, backends: dict[str, Backend]) -> None:
        """Route to these from now on."""
        self.backends = backends
        self.look()

    def look(self) -> None:
        """Which of them are ready has changed."""
        ready = any(b.ready and b.deployed.percent for b in self.backends.values())
        (self._awake.set if ready else self._awake.clear)()

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request."""
        if self._busy >= MOST_REQUESTS:
            return _failed(429, f"busy: {self._busy} requests are under way")
        self._busy += 1
        try:
            asked = Asked(
                request.method, request.raw_path, _passed_on(request.headers), await request.read()
            )
            said = await self._answer(asked)
        finally:
            self._busy -= 1
        if said is None:
            return _failed(503, "no process of this endpoint answers")
        self._mirror(asked, said)
        return web.Response(body=said.body, status=said.status, headers=_passed_on(said.headers))

    async def _answer(self, asked: Asked) -> Said | None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        failed: set[str] = set()
        while (left := deadline - time.monotonic()) > 0:
            backend = self._choose(failed)
            if backend is None:
                failed.clear()
                await self._some_are_ready(left)
                continue
            try:
                return await backend.send(asked, min(left, TRY_SECONDS))
            except (aiohttp.ClientError, TimeoutError, OSError):
                backend.tally.missed()
                failed.add(backend.digest)
        return None

    def _choose(self, failed: set[str]) -> Backend | None:
        """Whose turn it is; the next one that is ready when that one is not."""
        weights = {name: b.deployed.percent for name, b in self.backends.items()}
        turn = self._turns.next(weights)
        if turn is None:
            return None
        ready = [n for n, b in self.backends.items() if b.ready and weights[n] and n not in failed]
        if turn in ready:
            return self.backends[turn]
        if ready and turn not in failed and self.backends[turn].tried:
            self.backends[turn].tally.missed()
        return self.backends[max(ready, key=lambda name: weights[name])] if ready else None

    async def _some_are_ready(self, seconds: float) -> None:
        await asyncio.sleep(PAUSE)
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._awake.wait()

    def _mirror(self, asked: Asked, said: Said) -> None:
        """Let a shadow answer too, after the client has its answer."""
        weights = {name: b.deployed.mirror for name, b in self.backends.items()}
        if asked.method != "POST" or not any(weights.values()):
            return
        name = self._mirrored.next({**weights, "": 100 - sum(weights.values())})
        if name and self.backends[name].ready and len(self._shadows) < MOST_MIRRORED:
            task = asyncio.create_task(_shadow(self.backends[name], asked, said))
            self._shadows.add(task)
            task.add_done_callback(self._shadows.discard)


async def _shadow(backend: Backend, asked: Asked, served: Said) -> None:
    try:
        said = await backend.send(asked, TRY_SECONDS)
    except (aiohttp.ClientError, TimeoutError, OSError):
        backend.tally.missed()
        return
    if served.status == 200:
        backend.tally.compared += 1
        differs = said.status != 200 or shadow.differ(served.body, said.body)
        backend.tally.differing += differs


def _passed_on(headers: object) -> CIMultiDict[str]:
    """Without what speaks of one connection alone."""
    assert hasattr(headers, "items")
    return CIMultiDict((k, v) for k, v in headers.items() if k.lower() not in HOP)


def _failed(status: int, reason: str) -> web.Response:
    return web.json_response({"error": reason}, status=status, headers={"retry-after": "1"})


async def listen(router: Router, host: str, port: int) -> web.ServerRunner:
    """Answer on this port until the runner is cleaned up; raises OSError when it is taken."""
    loop = asyncio.get_running_loop()

    def request(message, payload, protocol, writer, task):  # type: ignore[no-untyped-def]
        return web.BaseRequest(
            message, payload, protocol, writer, task, loop, client_max_size=BODY_BYTES
        )

    server = web.Server(router.handle, request_factory=request, access_log=None)
    runner = web.ServerRunner(server)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port, backlog=2048).start()
    except OSError:
        await runner.cleanup()
        raise
    return runner
