"""One deployed bundle as a process that is started again whenever it ends."""

from __future__ import annotations

import asyncio
import logging
import math
import sys
import time
from asyncio.subprocess import DEVNULL, PIPE
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import aiohttp
from aiohttp import web
from multidict import CIMultiDict
from yarl import URL

from mlops.base.processes import HOST, free_port
from mlops.deploy.local.home import LOG, SAMPLES, Deployed, Home, Process

NO_ANSWER = (aiohttp.ClientError, TimeoutError, OSError)
LOOK_SECONDS = 0.03
START_SECONDS = 60.0
# How often a ready process is checked, and for how long it may fail to answer.
WATCH_SECONDS, SILENT_SECONDS = 2.0, 10.0
# The pause before a process is started again doubles, unless it ran for some time.
FIRST_PAUSE, LONGEST_PAUSE, STABLE_SECONDS = 0.2, 10.0, 60.0
DRAIN_SECONDS, STOP_SECONDS = 30.0, 10.0
# Files of samples that are kept, each of at most the size that the service is told.
SAMPLE_FILES = 32
LATENCIES = 1000
# Headers that belong to one connection.
HOP = {
    "connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "te", "trailer",
    "transfer-encoding", "upgrade", "content-length", "date", "server", "host", "expect",
}  # fmt: skip
log = logging.getLogger("mlops.deploy")


class Backend:
    """A bundle's process on a free port of the loopback, watched and counted."""

    def __init__(
        self, home: Home, digest: str, deployed: Deployed, session: aiohttp.ClientSession
    ) -> None:
        self.digest, self.deployed, self.process = digest, deployed, Process()
        self._home, self._session = home, session
        self._open = 0
        self._latencies: deque[float] = deque(maxlen=LATENCIES)
        self._task = asyncio.create_task(self._keep_running())

    async def send(self, request: web.Request, seconds: float) -> web.Response:
        """Pass a request on, and count it; raises one of NO_ANSWER when there is none in time."""
        start = time.perf_counter()
        self._open += 1
        try:
            response = await self._send(
                seconds, request.method, request.raw_path, headers=_end_to_end(request.headers),
                data=await request.read() or None,
            )  # fmt: skip
        except NO_ANSWER:
            self.count_missed()
            raise
        finally:
            self._open -= 1
        self._latencies.append(time.perf_counter() - start)
        self.process.requests += 1
        self.process.errors += response.status >= 500
        return response

    def count_missed(self) -> None:
        """Count a request that was not answered."""
        self.process.requests += 1
        self.process.errors += 1

    def count_refusal(self) -> None:
        """Count as failed a request that was answered with 400 to 499."""
        self.process.errors += 1

    def report(self) -> Process:
        """The process as it is now."""
        latencies = sorted(self._latencies) or [0.0]
        self.process.seconds = latencies[math.ceil(0.95 * len(latencies)) - 1]
        return self.process

    async def stop(self) -> None:
        """Wait for open requests to be answered, then end the process."""
        self.process.ready = False
        with suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_SECONDS):
                while self._open:
                    await asyncio.sleep(LOOK_SECONDS)
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task

    async def _send(
        self, seconds: float, method: str, path: str, **request: object
    ) -> web.Response:
        # The path with its escapes and query as they came.
        url = URL(f"http://{HOST}:{self.process.port}{path}", encoded=True)
        async with asyncio.timeout(seconds), self._session.request(
            method, url, allow_redirects=False, **request  # type: ignore[arg-type]
        ) as response:  # fmt: skip
            headers = _end_to_end(response.headers)
            return web.Response(body=await response.read(), status=response.status, headers=headers)

    async def _keep_running(self) -> None:
        pause, process = FIRST_PAUSE, self.process
        while True:
            start = time.monotonic()
            try:
                process.reason = await self._run()
            except Exception as error:  # The next start may succeed.
                process.reason = f"{type(error).__name__}: {error}"
            log.error("process ended", extra={"digest": self.digest, "reason": process.reason})
            pause = FIRST_PAUSE if time.monotonic() - start > STABLE_SECONDS else pause
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)
            process.restarts += 1

    async def _run(self) -> str:
        """Run the process once; returns why it ended, or had to be ended."""
        folder = self._home.folder.absolute()
        _remove_oldest(folder / SAMPLES)
        self.process.port = free_port()
        with (self._home.processes / LOG).open("ab") as output:
            child = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "mlops.deploy.local.worker", str(folder / self.digest),
                "--version", self.deployed.version, "--samples", str(folder / SAMPLES),
                "--host", HOST, "--port", str(self.process.port), *self.deployed.options,
                stdin=PIPE, stdout=DEVNULL, stderr=output,
            )  # fmt: skip
        self.process.pid = child.pid
        try:
            reason = await self._watch(child)
            if child.returncode is None:
                child.kill()
        finally:
            self.process.ready = False
            if child.returncode is None:
                child.terminate()
            try:
                await asyncio.wait_for(child.wait(), STOP_SECONDS)
            except TimeoutError:
                child.kill()
        return reason

    async def _watch(self, child: asyncio.subprocess.Process) -> str:
        """Wait until the process is ready, and check that it stays so; returns what is wrong."""
        deadline = time.monotonic() + START_SECONDS
        while True:
            digest = await self._served_digest()
            if digest == self.digest:
                self.process.ready = self.process.tried = True
                self.process.reason = ""
                deadline = time.monotonic() + SILENT_SECONDS
            elif digest is not None:
                return f"serves {digest[:12] or 'no bundle'}"
            elif time.monotonic() > deadline:
                return "does not answer"
            with suppress(TimeoutError):
                pause = WATCH_SECONDS if self.process.ready else LOOK_SECONDS
                return f"ended with {await asyncio.wait_for(child.wait(), pause)}"

    async def _served_digest(self) -> str | None:
        """The digest that the process reports to serve; None when it is not ready."""
        with suppress(*NO_ANSWER):
            response = await self._send(SILENT_SECONDS, "GET", "/v2/health/ready")
            if response.status == 200:
                return response.headers.get("x-model-digest", "")
        return None


def _end_to_end(headers: Mapping[str, str]) -> CIMultiDict[str]:
    return CIMultiDict((k, v) for k, v in headers.items() if k.lower() not in HOP)


def _remove_oldest(samples: Path) -> None:
    """Keep the newest files of samples; each process writes files of its own."""
    files = sorted(samples.glob("predictions-*"), key=lambda file: file.stat().st_mtime)
    for file in files[:-SAMPLE_FILES]:
        file.unlink(missing_ok=True)
