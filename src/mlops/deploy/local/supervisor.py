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
from contextlib import suppress
from pathlib import Path

import aiohttp
import msgspec
from aiohttp import web

from mlops.deploy.local.backend import Backend
from mlops.deploy.local.home import LOCK, STATE, Address, Home, State, Status
from mlops.deploy.local.router import Router, listen
from mlops.serving import logs
from mlops.serving.server import TOKEN

LOOK_SECONDS = 0.1


class Supervisor:
    """One environment's processes."""

    def __init__(self, home: Home, lock: os.stat_result, session: aiohttp.ClientSession) -> None:
        self.home = home
        self.state = State()
        self.router = Router()
        self.port = 0
        self._lock = lock
        self._session = session
        self._stamp: tuple[int, int] | None = None
        self._stopping: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Serve until there is nothing to serve."""
        self.look()
        try:
            endpoint, self.port = await listen(self.router.handle, self.state.port)
        except OSError:  # Another process has the port.
            endpoint, self.port = await listen(self.router.handle)
        status, port = await listen(self._report)
        token = os.environ.get(TOKEN, "")
        self.home.announce(Address(os.getpid(), port, token, self._lock.st_ctime_ns))
        stopped = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stopped.set)
        while not stopped.is_set() and self.look():
            with suppress(TimeoutError):
                await asyncio.wait_for(stopped.wait(), LOOK_SECONDS)
        await endpoint.cleanup()
        await status.cleanup()
        await asyncio.gather(*(b.stop() for b in self.router.backends.values()), *self._stopping)

    def look(self) -> bool:
        """Apply the state when it has changed; False when it is time to end."""
        try:
            if (self.home.processes / LOCK).stat().st_ino != self._lock.st_ino:
                return False
            file = (self.home.folder / STATE).stat()
        except FileNotFoundError:
            return False
        stamp = file.st_ino, file.st_mtime_ns
        if stamp != self._stamp:
            self._apply(self.home.state() or State())
            self._stamp = stamp
        return bool(self.state.bundles)

    async def _report(self, request: web.Request) -> web.Response:
        """The status as JSON, whatever the request."""
        self.look()
        backends = {name: b.report() for name, b in self.router.backends.items()}
        content = Status(self.state, self.port, len(self._stopping), backends)
        return web.Response(body=msgspec.json.encode(content), content_type="application/json")

    def _apply(self, state: State) -> None:
        before, self.state = self.router.backends, state
        self.router.backends = {
            digest: before.get(digest) or Backend(self.home, digest, deployed, self._session)
            for digest, deployed in state.bundles.items()
        }
        for digest, deployed in state.bundles.items():
            self.router.backends[digest].deployed = deployed
        for digest in before.keys() - state.bundles.keys():
            task = asyncio.create_task(before[digest].stop())
            self._stopping.add(task)
            task.add_done_callback(self._stopping.discard)


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
