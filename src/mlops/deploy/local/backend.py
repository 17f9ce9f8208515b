"""One deployed bundle as a process that is started again whenever it ends."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import socket
import sys
import time
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import aiohttp
from yarl import URL

from mlops.deploy.local.home import SAMPLES, Deployed
from mlops.deploy.local.tally import Tally

LOOPBACK = "127.0.0.1"
LOOK = 0.03
START_SECONDS = 60.0
# How often a process that is ready is looked after, and how long it may be silent then.
WATCH_SECONDS, SILENT_SECONDS = 2.0, 10.0
FIRST_WAIT, LONGEST_WAIT = 0.2, 10.0
# Files of samples, those of processes that have ended included; each as large as the service's.
MOST_FILES = 32
# A process that lived so long has forgotten that it once did not.
SOUND_SECONDS = 60.0
DRAIN_SECONDS, STOP_SECONDS = 30.0, 10.0
log = logging.getLogger("mlops.deploy")


@dataclass(frozen=True)
class Asked:
    """A request as a backend is asked it; `path` is as it came, escapes and query included."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class Said:
    """What a backend answered."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Backend:
    """A bundle's process on a free port of the loopback.

    It is `ready` when its process says that it serves the very digest; `changed` is called
    whenever that begins or ends. It was `tried` once it has been ready.
    """

    def __init__(
        self, folder: Path, deployed: Deployed, log: Path, session: aiohttp.ClientSession,
        changed: Callable[[], None],
    ) -> None:  # fmt: skip
        self.folder = folder
        self.digest = folder.name
        self.deployed = deployed
        self.tally = Tally()
        self.ready = self.tried = False
        self.port = self.pid = self.restarts = self.inflight = 0
        self.reason = ""
        self._log = log
        self._session = session
        self._changed = changed
        self._task = asyncio.get_running_loop().create_task(self._live())

    async def send(self, asked: Asked, seconds: float) -> Said:
        """Ask the process; raises ClientError or TimeoutError when it does not answer."""
        begun = time.perf_counter()
        self.inflight += 1
        try:
            said = await self._send(asked, seconds)
        finally:
            self.inflight -= 1
        self.tally.answered(said.status, time.perf_counter() - begun)
        return said

    async def ask(self, asked: Asked, seconds: float) -> Said:
        """The same, uncounted."""
        return await self._send(asked, seconds)

    async def stop(self) -> None:
        """Let what was begun end, then end the process."""
        self.ready = False
        with suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_SECONDS):
                while self.inflight:
                    await asyncio.sleep(LOOK)
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task

    async def _send(self, asked: Asked, seconds: float) -> Said:
        url = URL(f"http://{LOOPBACK}:{self.port}{asked.path}", encoded=True)
        async with asyncio.timeout(seconds), self._session.request(
            asked.method, url, headers=asked.headers, data=asked.body or None,
            allow_redirects=False,
        ) as answer:  # fmt: skip
            return Said(answer.status, answer.headers, await answer.read())

    async def _live(self) -> None:
        """Start the process, again and again, sooner the longer it lived."""
        wait = FIRST_WAIT
        while True:
            begun = time.monotonic()
            await self._once()
            wait = FIRST_WAIT if time.monotonic() - begun > SOUND_SECONDS else wait
            await asyncio.sleep(wait)
            wait = min(2 * wait, LONGEST_WAIT)
            self.restarts += 1

    async def _once(self) -> None:
        """One process from its start to its end."""
        self.port = _free_port()
        process = await self._start()
        self.pid = process.pid
        watch = asyncio.create_task(self._watch())
        try:
            code = await process.wait()
            self.reason = self.reason or f"ended with {code}"
            log.error("process ended", extra={"digest": self.digest, "code": code})
        finally:
            self.ready = False
            self._changed()
            watch.cancel()
            await _end(process)

    async def _start(self) -> Process:
        samples = self.folder.parent / SAMPLES
        _remove_oldest(samples)
        with self._log.open("ab") as said:
            return await asyncio.create_subprocess_exec(
                sys.executable, "-m", "mlops.deploy.local.worker", str(self.folder),
                "--version", self.deployed.version, "--host", LOOPBACK, "--port", str(self.port),
                "--samples", str(samples),
                stdin=PIPE, stdout=DEVNULL, stderr=said,
            )  # fmt: skip

    async def _watch(self) -> None:
        """Wait until the process is ready, and see that it stays so; end it when it does not."""
        try:
            async with asyncio.timeout(START_SECONDS):
                serves = await self._serves()
            if serves != self.digest:
                self._give_up(f"serves {serves[:12] or 'nothing known'}")
                return
            self.reason, self.ready, self.tried = "", True, True
            log.info("ready", extra={"digest": self.digest, "pid": self.pid})
            self._changed()
            while True:
                await asyncio.sleep(WATCH_SECONDS)
                async with asyncio.timeout(SILENT_SECONDS):
                    await self._serves()
        except TimeoutError:
            self._give_up("does not answer")
        except Exception as error:
            log.exception("watch failed", extra={"digest": self.digest})
            self._give_up(f"can't be watched: {error}")

    async def _serves(self) -> str:
        """The digest that the process says it serves, as soon as it says so."""
        asked = Asked("GET", "/v2/health/ready", {}, b"")
        while True:
            with suppress(aiohttp.ClientError, OSError):
                said = await self._send(asked, SILENT_SECONDS)
                if said.status == 200:
                    return said.headers.get("x-model-digest", "")
            await asyncio.sleep(LOOK)

    def _give_up(self, reason: str) -> None:
        self.reason = reason
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)

    def first_output(self) -> str:
        """The name of the bundle's first output."""
        card = json.loads((self.folder / "bundle.json").read_text())
        return str(card["outputs"][0])


async def _end(process: Process) -> None:
    if process.returncode is not None:
        return
    with suppress(ProcessLookupError):
        process.terminate()
    try:
        async with asyncio.timeout(STOP_SECONDS):
            await process.wait()
    except TimeoutError:
        with suppress(ProcessLookupError):
            process.kill()


def _remove_oldest(samples: Path) -> None:
    """Keep what may be asked for of late; each process writes files of its own."""
    files = sorted(samples.glob("predictions-*"), key=lambda file: file.stat().st_mtime)
    for file in files[:-MOST_FILES]:
        file.unlink(missing_ok=True)


def _free_port() -> int:
    with socket.socket() as place:
        place.bind((LOOPBACK, 0))
        return int(place.getsockname()[1])
