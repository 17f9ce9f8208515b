"""`python -m mlops.deploy.local.supervisor ROOT ENVIRONMENT`: keeps one environment served.

It reads the state that verbs write, runs a process for each deployed bundle and the router in front
of them, and ends when nothing is deployed any more, or when its folder is no longer what it was.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import secrets
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
from aiohttp import web

from mlops.deploy import prometheus
from mlops.deploy.local import router
from mlops.deploy.local.backend import LOOPBACK, Asked, Backend
from mlops.deploy.local.home import ADDRESS, LOG, STATE, Address, Home, State, write
from mlops.serving import logs
from mlops.serving.server import TOKEN

LOOK_SECONDS = 0.1
PORT_SECONDS = 2.0
ASK_SECONDS = 30.0
P95 = 0.95
log = logging.getLogger("mlops.deploy")


class Supervisor:
    """One environment's processes."""

    def __init__(self, home: Home, lock: int, session: aiohttp.ClientSession) -> None:
        self.home = home
        self.state = State()
        self.router = router.Router()
        self.port = 0
        self.key = secrets.token_hex(16)
        self._lock = os.fstat(lock)
        self._session = session
        self._stamp: tuple[int, int] | None = None
        self._leaving: set[asyncio.Task[None]] = set()
        self._stopped = asyncio.Event()

    async def run(self) -> None:
        """Serve until there is nothing to serve."""
        self.look()
        endpoint = await self._listen()
        control, port = await self._control()
        address = Address(os.getpid(), port, self.key, self._lock.st_ctime_ns)
        write(self.home.processes / ADDRESS, msgspec.json.encode(address), 0o600)
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self._stopped.set)
        while not self._stopped.is_set() and self.look():
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopped.wait(), LOOK_SECONDS)
        await endpoint.cleanup()
        await control.cleanup()
        await asyncio.gather(*(b.stop() for b in self.router.backends.values()), *self._leaving)

    def look(self) -> bool:
        """Do what the state says, if it says something new; False when it is time to end."""
        try:
            if self.home.lock.stat().st_ino != self._lock.st_ino:
                return False
            found = (self.home.folder / STATE).stat()
            if (found.st_ino, found.st_mtime_ns) != self._stamp:
                state = self.home.state()
                self._apply(state or State())
                self._stamp = found.st_ino, found.st_mtime_ns
        except FileNotFoundError:
            return False
        return bool(self.state.bundles)

    def _apply(self, state: State) -> None:
        self.state = state
        backends = self.router.backends
        for digest, deployed in state.bundles.items():
            if digest in backends:
                backends[digest].deployed = deployed
        kept = {n: backends[n] if n in backends else self._backend(n) for n in state.bundles}
        self.router.use(kept)
        for backend in [b for name, b in backends.items() if name not in kept]:
            task = asyncio.create_task(backend.stop())
            self._leaving.add(task)
            task.add_done_callback(self._leaving.discard)

    def _backend(self, digest: str) -> Backend:
        return Backend(
            (self.home.folder / digest).absolute(), self.state.bundles[digest],
            self.home.processes / LOG, self._session, self.router.look,
        )  # fmt: skip

    async def _listen(self) -> web.ServerRunner:
        """The endpoint on its own port; on another one when somebody else keeps that."""
        deadline = asyncio.get_running_loop().time() + PORT_SECONDS
        while True:
            port = self.state.port if asyncio.get_running_loop().time() < deadline else 0
            try:
                runner = await router.listen(self.router, LOOPBACK, port)
                self.port = int(runner.addresses[0][1])
                return runner
            except OSError:
                await asyncio.sleep(LOOK_SECONDS)

    async def _control(self) -> tuple[web.ServerRunner, int]:
        runner = web.ServerRunner(web.Server(self._told, access_log=None))
        await runner.setup()
        await web.TCPSite(runner, LOOPBACK, 0).start()
        return runner, int(runner.addresses[0][1])

    async def _told(self, request: web.BaseRequest) -> web.StreamResponse:
        """What the verbs ask: `/status`, `/health/DIGEST`, `/ask/DIGEST` with rows."""
        given = request.headers.get("authorization", "")
        if not secrets.compare_digest(given.encode(), self.key.encode()):
            return web.Response(status=401)
        self.look()
        kind, _, digest = request.path.strip("/").partition("/")
        backend = self.router.backends.get(digest)
        if kind == "status":
            return _json(self._status())
        if backend is None:
            return web.Response(status=404)
        if kind == "health":
            return _json(await self._health(backend))
        return _json(await self._ask(backend, await request.read()))

    def _status(self) -> dict[str, Any]:
        return {
            "state": self.state,
            "port": self.port,
            "leaving": len(self._leaving),
            "bundles": {
                name: {
                    "ready": b.ready, "port": b.port, "pid": b.pid, "reason": b.reason,
                    "restarts": b.restarts,
                }
                for name, b in self.router.backends.items()
            },
        }  # fmt: skip

    async def _health(self, backend: Backend) -> dict[str, Any]:
        found: tuple[int, ...] = ()
        asked = Asked("GET", "/metrics", _authorized(), b"")
        with suppress(aiohttp.ClientError, TimeoutError, OSError):
            said = await backend.ask(asked, ASK_SECONDS)
            found = prometheus.tenths(
                prometheus.samples(said.body.decode()), backend.first_output()
            )
        counted = backend.tally
        return {
            "requests": counted.requests, "errors": counted.errors,
            "seconds": counted.percentile(P95), "scores": found,
            "compared": counted.compared, "differing": counted.differing,
        }  # fmt: skip

    async def _ask(self, backend: Backend, body: bytes) -> dict[str, Any]:
        headers = {"content-type": "application/json", **_authorized()}
        # One that was started this moment is waited for; one that has died has failed.
        with suppress(TimeoutError):
            async with asyncio.timeout(ASK_SECONDS):
                while not backend.tried:
                    await asyncio.sleep(LOOK_SECONDS)
        begun = time.perf_counter()
        try:
            said = await backend.ask(Asked("POST", "/predict", headers, body), ASK_SECONDS)
            scores = _first_output(said.body) if said.status == 200 else []
        except (aiohttp.ClientError, TimeoutError, OSError):
            scores = []
        return {"seconds": time.perf_counter() - begun, "scores": scores}


def _first_output(body: bytes) -> list[float]:
    """Of each prediction: the value, the probability, or that of the first class."""
    rows = msgspec.json.decode(body)["predictions"]
    return [
        row["probabilities"][0] if "probabilities" in row else next(iter(row.values()))
        for row in rows
    ]


def _authorized() -> dict[str, str]:
    token = os.environ.get(TOKEN)
    return {"authorization": f"Bearer {token}"} if token else {}


def _json(content: Any) -> web.Response:
    return web.Response(body=msgspec.json.encode(content), content_type="application/json")


async def _supervise(home: Home, lock: int) -> None:
    connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=30)
    skipped = ("User-Agent", "Accept", "Accept-Encoding", "Content-Type")
    async with aiohttp.ClientSession(
        connector=connector, auto_decompress=False, cookie_jar=aiohttp.DummyCookieJar(),
        skip_auto_headers=skipped, timeout=aiohttp.ClientTimeout(total=None),
    ) as session:  # fmt: skip
        await Supervisor(home, lock, session).run()


def main(root: Path, environment: str) -> None:
    """Supervise, unless another process does so already."""
    import uvloop

    home = Home(root, environment)
    logs.configure()
    lock = os.open(home.lock, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_supervise(home, lock))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
