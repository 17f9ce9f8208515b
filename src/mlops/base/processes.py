"""Run commands, and start, await and stop servers as processes of this machine."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from subprocess import PIPE
from typing import Any

import psutil

from mlops.base.errors import UserError, one_line

HOST = "127.0.0.1"
START_SECONDS = 180.0
CONNECT_SECONDS = 5.0
STOP_SECONDS = 20.0
LOOK_SECONDS = 0.1


class CommandFailed(UserError):
    """A command ended with another code than 0; `stderr` is all that it printed there."""

    def __init__(self, message: str, code: int, stderr: str = "") -> None:
        super().__init__(message)
        self.code, self.stderr = code, stderr


def run(command: Sequence[str], what: str = "", **options: Any) -> str:
    """Run a command to its end and return its standard output.

    `options` are those of `subprocess.run`; unless they say otherwise, the command reads nothing
    and its output is captured. With `capture_output=False` it is shown; its errors at the end, but
    on a terminal as they come, with the progress that only a terminal shows. Raises CommandFailed,
    in one line that begins with `what` (by default the command's first two words) and ends with the
    command's own error, and UserError when the program is not on the PATH or needs longer than
    `timeout` seconds.
    """
    what = what or " ".join(command[:2])
    if options.get("input") is None:
        options["stdin"] = subprocess.DEVNULL
    shown = not options.pop("capture_output", True)
    streams = {"stdout": None if shown else PIPE, "stderr": PIPE}
    if shown and sys.stderr.isatty():
        streams["stderr"] = None
    options = {**streams, "text": True} | options
    try:
        done = subprocess.run(command, check=False, **options)
    except FileNotFoundError:
        raise UserError(f"{command[0]}: not found on the PATH") from None
    except subprocess.TimeoutExpired as error:
        raise UserError(f"{what}: not finished after {error.timeout:g} s") from None
    if shown and done.stderr:
        sys.stderr.write(done.stderr)
    if done.returncode:
        reason = _error(done.stderr) or _error(done.stdout) or "see the lines above"
        raise CommandFailed(f"{what}: {reason}", done.returncode, done.stderr or "")
    return done.stdout or ""


def start(
    command: Sequence[str], log: Path, folder: Path, env: Mapping[str, str] | None = None
) -> int:
    """Start a process that outlives this one, its output appended to `log`; gives its number."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        return subprocess.Popen(
            command, cwd=folder, env=env, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            start_new_session=True,
        ).pid  # fmt: skip


def runs(pid: int) -> bool:
    """Whether a process of this number runs; a zombie process does not."""
    with suppress(psutil.NoSuchProcess):
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    return False


def wait(
    condition: Callable[[], bool], alive: Callable[[], bool] = lambda: True,
    seconds: float = START_SECONDS,
) -> bool:  # fmt: skip
    """Whether the condition becomes true within the time, and while `alive` is."""
    deadline = time.monotonic() + seconds
    while not condition():
        if not alive() or time.monotonic() > deadline:
            return False
        time.sleep(LOOK_SECONDS)
    return True


def stop(pids: Sequence[int]) -> None:
    """Terminate processes with their groups; kill those that take longer than STOP_SECONDS."""
    for pid in pids:
        _signal_group(pid, signal.SIGTERM)
    wait(lambda: not any(runs(pid) for pid in pids), seconds=STOP_SECONDS)
    for pid in pids:
        _signal_group(pid, signal.SIGKILL)


def stop_children(word: str) -> None:
    """Stop the processes below this one whose command has the word in it."""
    below = psutil.Process().children(recursive=True)
    children = [process for process in below if word in " ".join(_command(process))]
    for child in children:
        with suppress(psutil.NoSuchProcess):
            child.terminate()
    _, left = psutil.wait_procs(children, timeout=STOP_SECONDS)
    for child in left:
        child.kill()


def working_in(folder: Path) -> list[tuple[int, int, list[str]]]:
    """The processes that work in a folder or below it: their numbers, groups and commands."""
    found, place = [], folder.resolve()
    for process in psutil.process_iter():
        with suppress(psutil.Error, ProcessLookupError):
            if Path(process.cwd()).is_relative_to(place):
                found.append((process.pid, os.getpgid(process.pid), process.cmdline()))
    return found


def answers(url: str) -> bool:
    """Whether a server answers there with status 200."""
    with suppress(OSError), urllib.request.urlopen(url, timeout=2) as response:
        return bool(response.status == 200)
    return False


def free_port(preferred: int = 0) -> int:
    """The preferred port when it is free, else any that is; one that can be connected to."""
    reason = ""
    for port in (preferred, 0):
        with socket.socket() as probe:
            # As servers do: what is left of closed connections does not keep a port.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
                probe.listen()
                socket.create_connection(probe.getsockname(), CONNECT_SECONDS).close()
                return int(probe.getsockname()[1])
            except OSError as error:
                reason = one_line(error)
    raise UserError(f"{HOST}: no port to connect to on the loopback interface: {reason}")


def _error(output: str | None) -> str:
    """What an output says of an error: from the last line that begins so, else its last line."""
    stripped = filter(None, map(str.strip, (output or "").splitlines()))
    # Make ends with a line of its own.
    lines = [line for line in stripped if not (line.startswith("make") and "] Error " in line)]
    begun = [number for number, line in enumerate(lines) if line.lower().startswith("error: ")]
    text = one_line(" ".join(lines[begun[-1] if begun else -1 :]))
    return text[len("error: ") :] if begun else text


def _command(process: psutil.Process) -> list[str]:
    """The process's arguments; none of a zombie process, or of one that may not be looked into."""
    with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
        return list(process.cmdline())
    return []


def _signal_group(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(pid, number)
