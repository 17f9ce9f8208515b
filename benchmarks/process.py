"""One command, timed, and how much memory it and its children took at most."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from benchmarks.figure import Failed

SAMPLE_SECONDS = 0.2


@dataclass(frozen=True)
class Ended:
    """What a command took: wall time and CPU time, its children's too, in seconds; peak memory in
    bytes (0 unless watched), `own` without its children."""

    seconds: float
    cpu: float
    peak: int
    own: int
    out: str


def run(
    command: Sequence[str], folder: Path, environment: Mapping[str, str], *, watched: bool = False
) -> Ended:
    """Run a command in a folder; its memory is sampled while it is watched.

    Raises Failed with the command's last line when it does not end well.
    """
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        start, cpu, peak, own = time.perf_counter(), _cpu_of_children(), 0, 0
        inside: dict[str, Any] = {"cwd": folder, "env": environment, "start_new_session": True}
        streams: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": out, "stderr": err}
        process = subprocess.Popen(command, **streams, **inside)
        try:
            while process.poll() is None:
                with suppress(subprocess.TimeoutExpired):
                    process.wait(timeout=SAMPLE_SECONDS if watched else None)
                    break
                peak = max(peak, memory(process.pid))
                own = max(own, memory(process.pid, children=False))
            seconds = time.perf_counter() - start
        finally:
            # Whatever interrupts a benchmark must not leave its processes behind.
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        out.seek(0)
        err.seek(0)
        if process.returncode:
            last = (err.read().strip() or out.read().strip() or "no output").splitlines()[-1]
            raise Failed(f"{' '.join(command[1:])}: exit code {process.returncode}: {last}")
        return Ended(seconds, _cpu_of_children() - cpu, peak, own, out.read())


def _cpu_of_children() -> float:
    """Seconds that all ended children of this process took."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def memory(pid: int, *, children: bool = True) -> int:
    """What a process and all its children hold now, in bytes; pages they share count once."""
    total = 0
    with suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        for member in (process, *(process.children(recursive=True) if children else ())):
            with suppress(psutil.Error):
                held = member.memory_full_info()
                # Where the system does not share pages out, only a process's own are counted.
                total += getattr(held, "pss", held.uss)
    return total
