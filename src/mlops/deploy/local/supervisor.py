"""`python -m mlops.deploy.local.supervisor ROOT ENVIRONMENT`: keep one environment served.

It reads the state that the verbs write, runs a process for each deployed bundle and the router in
front of them, and ends when nothing is deployed any more, or its folder was removed or replaced.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import aiohttp
import msgspec
from aiohttp import web

from mlops.base.processes import HOST
from mlops.deploy.local.backend import Backend
from mlops.deploy.local.home import FORM, LOCK, STATE, Address, Deployed, Home, State, Status
from mlops.deploy.local.router import Router
from mlops.serving import logs
from mlops.serving.server import TOKEN

LOOK_SECONDS = 0.1
BODY_BYTES = 16 * 1024 * 1024


class Supervisor:
    """One environment's processes.

    A process that is to have other options serves until its successor in `_next` is ready.
    """

    def __init__(self, home: Home, lock: os.stat_result, session: aiohttp.ClientSession) -> None:
        self._home, self._lock, self._session = home, lock, session
        self._state, self._port = State(), 0
        self._stamp = (0, 0)
        self._router = Router()
        self._next: dict[str, Backend] = {}
        self._stopping: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Serve until there is nothing to serve."""
        self._look()
        try:
            endpoint, self._port = await listen(self._router.handle, self._state.port)
        except OSError:  # Another process has the port.
            endpoint, self._port = await listen(self._router.handle)
        status, port = await listen(self._report)
        token = os.environ.get(TOKEN, "")
        self._home.announce(Address(os.getpid(), port, token, self._lock.st_ctime_ns))
        stopped = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stopped.set)
        while not stopped.is_set() and self._look():
            with suppress(TimeoutError):
                await asyncio.wait_for(stopped.wait(), LOOK_SECONDS)
        await endpoint.cleanup()
        await status.cleanup()
        ended = [*self._router.backends.values(), *self._next.values()]
        await asyncio.gather(*(backend.stop() for backend in ended), *self._stopping)

    def _look(self) -> bool:
        """Apply the state when it has changed; False when it is time to end."""
        try:
            lock = (self._home.processes / LOCK).stat()
            file = (self._home.folder / STATE).stat()
        except FileNotFoundError:
            return False
        if (file.st_ino, file.st_mtime_ns) != self._stamp:
            self._stamp = file.st_ino, file.st_mtime_ns
            self._apply(self._home.state())
        for digest in [digest for digest, b in self._next.items() if b.process.ready]:
            self._stop(self._router.backends[digest])
            self._router.backends[digest] = self._next.pop(digest)
        return lock.st_ino == self._lock.st_ino and bool(self._state.bundles)

    async def _report(self, request: web.Request) -> web.Response:
        """The status as JSON, whatever the request."""
        self._look()
        current = {**self._router.backends, **self._next}
        backends = {name: backend.report() for name, backend in current.items()}
        content = Status(self._state, self._port, len(self._stopping), backends, FORM)
        return web.Response(body=msgspec.json.encode(content), content_type="application/json")

    def _apply(self, state: State) -> None:
        self._state, backends = state, self._router.backends
        for running in (backends, self._next):
            for digest in running.keys() - state.bundles.keys():
                self._stop(running.pop(digest))
        for digest, deployed in state.bundles.items():
            backend = backends.get(digest) or self._started(digest, deployed)
            backends[digest] = backend
            following = self._next.pop(digest, None)
            if following and (following.deployed.options != deployed.options):
                self._stop(following)
                following = None
            if backend.deployed.options == deployed.options:
                backend.deployed = deployed
                if following:
                    self._stop(following)
                continue
            backend.deployed = replace(deployed, options=backend.deployed.options)
            self._next[digest] = following or self._started(digest, deployed)
            self._next[digest].deployed = deployed

    def _started(self, digest: str, deployed: Deployed) -> Backend:
        return Backend(self._home, digest, deployed, self._session)

    def _stop(self, backend: Backend) -> None:
        task = asyncio.create_task(backend.stop())
        self._stopping.add(task)
        task.add_done_callback(self._stopping.discard)


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


async def _supervise(home: Home, lock: os.stat_result) -> None:
    # Requests are passed on as they come: no cookies, headers or decompression of the client's.
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=30),
        auto_decompress=False, cookie_jar=aiohttp.DummyCookieJar(),
        skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
        timeout=aiohttp.ClientTimeout(total=None),
    ) as session:  # fmt: skip
        await Supervisor(home, lock, session).run()


def main(root: Path, environment: str) -> None:
    """Supervise, unless another process does so already."""
    home = Home(root, environment)
    logs.configure()
    lock = os.open(home.processes / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return
    asyncio.run(_supervise(home, os.fstat(lock)))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
