"""A server as a process on its core: started, asked until it answers, held, ended."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import psutil

from benchmarks.figure import Failed
from benchmarks.serving import machine
from benchmarks.serving.load import whole

PATIENCE = 180.0
PAUSE = 0.002


@dataclass(frozen=True)
class Command:
    """How a server is started: its words, its port, where, and with which variables more."""

    words: tuple[str, ...]
    port: int
    folder: Path
    variables: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Server:
    """A running server; `seconds` passed from its start to its first answer."""

    port: int
    process: subprocess.Popen[bytes]
    seconds: float

    def hold(self) -> None:
        """Take no time of the core until it is let go."""
        _tell(self.tree, signal.SIGSTOP)

    def let_go(self) -> None:
        """Go on where it was held."""
        _tell(self.tree, signal.SIGCONT)

    def pin(self) -> None:
        """Put every thread on the servers' core, whatever core it chose for itself."""
        for process in self.tree:
            for thread in process.threads():
                with suppress(ProcessLookupError):
                    os.sched_setaffinity(thread.id, machine.SERVER)

    @property
    def resident(self) -> int:
        """Resident memory of the process and its children, in bytes."""
        return sum(int(process.memory_info().rss) for process in self.tree)

    @property
    def tree(self) -> list[psutil.Process]:
        """The process and its children: some put theirs into a group of their own."""
        return _tree(self.process.pid)


@contextmanager
def running(command: Command, request: bytes) -> Iterator[Server]:
    """Start a server and ask it until it answers; raises Failed with its last line otherwise."""
    with tempfile.TemporaryFile() as log:
        with machine.on(machine.SERVER):
            start = time.perf_counter()
            process = _start(command, log)
        try:
            _wait(process, command.port, request, start, log)
            server = Server(command.port, process, time.perf_counter() - start)
            server.pin()
            yield server
        finally:
            _tell(_tree(process.pid), signal.SIGKILL)
            process.wait()


def _tree(pid: int) -> list[psutil.Process]:
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _tell(tree: list[psutil.Process], number: signal.Signals) -> None:
    for process in tree:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(number)


def _start(command: Command, log: IO[bytes]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command.words,
        cwd=command.folder,
        env={**os.environ, **command.variables},
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        start_new_session=True,
    )


def _wait(
    process: subprocess.Popen[bytes], port: int, request: bytes, start: float, log: IO[bytes]
) -> None:
    while not _answers(port, request):
        late = time.perf_counter() - start > PATIENCE
        if late or process.poll() is not None:
            log.seek(0)
            last = (log.read().decode(errors="replace").strip() or "no output").splitlines()[-1]
            raise Failed(f"{' '.join(process.args)}: does not answer: {last}")  # type: ignore[arg-type]
        time.sleep(PAUSE)


def _answers(port: int, request: bytes) -> bool:
    """Whether the server answers this request well."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as connection:
            connection.sendall(request)
            data = b""
            while whole(data) is None:
                received = connection.recv(65536)
                if not received:
                    return False
                data += received
    except OSError:
        return False
    return data.startswith(b"HTTP/1.1 200")
