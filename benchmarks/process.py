"""One command, timed, and how much memory it and its children took at most."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.figure import Failed

SAMPLE_SECONDS = 0.2


@dataclass(frozen=True)
class Ended:
    """What a command took: wall time in seconds, peak memory in bytes (0 unless watched)."""

    seconds: float
    peak: int
    out: str


def run(
    command: Sequence[str], folder: Path, environment: Mapping[str, str], *, watched: bool = False
) -> Ended:
    """Run a command in a folder; its memory is sampled while it is watched.

    Raises Failed with the command's last line when it does not end well.
    """
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        start = time.perf_counter()
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            start_new_session=True,
        )
        try:
            peak = _watch(process) if watched else 0
            code = process.wait()
            seconds = time.perf_counter() - start
        finally:
            # Whatever interrupts a benchmark must not leave its processes behind.
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        out.seek(0)
        err.seek(0)
        if code:
            last = (err.read().strip() or out.read().strip() or "no output").splitlines()[-1]
            raise Failed(f"{' '.join(command[1:])}: exit code {code}: {last}")
        return Ended(seconds, peak, out.read())


def _watch(process: subprocess.Popen[bytes]) -> int:
    """The most memory seen until the process ended, in bytes."""
    peak = 0
    while True:
        try:
            process.wait(timeout=SAMPLE_SECONDS)
            return peak
        except subprocess.TimeoutExpired:
            peak = max(peak, memory(process.pid))


def memory(pid: int) -> int:
    """What a process and all its children hold now, in bytes; pages they share count once."""
    try:
        process = psutil.Process(pid)
        tree = [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0
    total = 0
    for member in tree:
        with suppress(psutil.Error):
            held = member.memory_full_info()
            # Where the system does not share pages out, only a process's own are counted.
            total += getattr(held, "pss", held.uss)
    return total
