"""Servers as processes of this machine: started apart, waited for, stopped with their groups."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from mlops.base.errors import UserError

HOST = "127.0.0.1"
START_SECONDS = 180.0
STOP_SECONDS = 20.0
LOOK_SECONDS = 0.2


def start(
    command: Sequence[str], log: Path, folder: Path, env: Mapping[str, str] | None = None,
    user: str | None = None,
) -> int:  # fmt: skip
    """Start a process that outlives this one, its words in `log`; gives its number."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as said:
        return subprocess.Popen(
            command, cwd=folder, env=env, stdin=subprocess.DEVNULL, stdout=said, stderr=said,
            start_new_session=True, user=user, group=user, extra_groups=[] if user else None,
        ).pid  # fmt: skip


def wait(what: Callable[[], bool], alive: Callable[[], bool]) -> bool:
    """Whether it comes true, while the process lives, in time."""
    deadline = time.monotonic() + START_SECONDS
    while not what():
        if not alive() or time.monotonic() > deadline:
            return False
        time.sleep(LOOK_SECONDS)
    return True


def stop(pids: Sequence[int], alive: Callable[[int], bool]) -> None:
    """End these processes and their groups, by force when they take too long."""
    for pid in pids:
        _signal_group(pid, signal.SIGTERM)
    deadline = time.monotonic() + STOP_SECONDS
    while any(alive(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.1)
    for pid in pids:
        _signal_group(pid, signal.SIGKILL)


def answers(url: str) -> bool:
    """Whether a server says there that all is well."""
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def free_port(wanted: int) -> int:
    """The usual port where it is free, else any that is."""
    for port in (wanted, 0):
        with socket.socket() as probe:
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise UserError(f"{HOST}: no free port")


def _signal_group(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(pid, number)
