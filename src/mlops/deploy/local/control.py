"""What the verbs tell a supervisor and hear from it; it is started where there is none."""

from __future__ import annotations

import http.client
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import TypeVar

import msgspec

from mlops.base.errors import UserError
from mlops.deploy.local.home import LOG, PROCESSES, Address, Home, State

LOOPBACK = "127.0.0.1"
PATIENCE_SECONDS = 90.0
ANSWER_SECONDS = 40.0
LOOK_SECONDS = 0.05
# Of the log, when a supervisor is started.
MOST_LOG_BYTES = 10 * 1024 * 1024
NO_ANSWER = (OSError, http.client.HTTPException, msgspec.DecodeError)
Kind = TypeVar("Kind")


@dataclass(frozen=True)
class Process:
    """A deployed bundle's process: whether it is ready, and the last that went wrong."""

    ready: bool
    port: int
    pid: int
    restarts: int
    reason: str


@dataclass(frozen=True)
class Status:
    """What a supervisor says: the state that it serves, on which port, by which processes."""

    state: State
    port: int
    leaving: int
    bundles: dict[str, Process]


def status(home: Home) -> Status | None:
    """What the supervisor says; None when there is none, or it does not answer."""
    try:
        return _ask(home, "GET", "/status", b"", Status) if home.supervised() else None
    except NO_ANSWER:
        return None


def ask(home: Home, method: str, path: str, body: bytes, kind: type[Kind]) -> Kind:
    """One question; a supervisor that is gone is started again for it.

    Raises UserError when none answers.
    """
    for again in (True, False):
        try:
            return _ask(home, method, path, body, kind)
        except NO_ANSWER as error:
            reason = str(error) or type(error).__name__
        if again:
            settle(home)
    raise UserError(f"{home.processes}: the supervisor does not answer: {reason}")


def settle(home: Home, digest: str = "") -> Status:
    """Wait until a supervisor serves the state, and a bundle is ready if one is named.

    Raises UserError with the reason when it is not in time, or its process ends again and again.
    """
    deadline, before = time.monotonic() + PATIENCE_SECONDS, None
    while time.monotonic() < deadline:
        if not home.supervised():
            _start(home)
        found = status(home)
        if found and found.state == home.state() and not found.leaving:
            process = found.bundles.get(digest)
            if not digest or (process and process.ready):
                return found
            before = process.restarts if process and before is None else before
            if process and before is not None and process.restarts > before + 1:
                raise UserError(_why_not(home, digest, process.reason))
        time.sleep(LOOK_SECONDS)
    raise UserError(_why_not(home, digest, f"not ready in {PATIENCE_SECONDS:.0f} s"))


def gone(home: Home) -> None:
    """Wait until no supervisor lives."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while home.supervised() and time.monotonic() < deadline:
        time.sleep(LOOK_SECONDS)


def digest_at(port: int) -> str:
    """The digest that a scoring process says it serves; "" when it does not answer."""
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=ANSWER_SECONDS)
    try:
        connection.request("GET", "/v2/health/ready")
        return connection.getresponse().headers.get("x-model-digest", "")
    except (OSError, http.client.HTTPException):
        return ""
    finally:
        connection.close()


def _why_not(home: Home, digest: str, reason: str) -> str:
    what = f"bundle {digest[:12]}: is not served" if digest else "the supervisor does not come up"
    return f"{what}: {reason}; see {PROCESSES / home.environment / LOG}"


def _ask(home: Home, method: str, path: str, body: bytes, kind: type[Kind]) -> Kind:
    address = home.address() if home.supervised() else None
    if address is None:
        raise ConnectionError("there is none")
    return _call(address, method, path, body, kind)


def _call(address: Address, method: str, path: str, body: bytes, kind: type[Kind]) -> Kind:
    connection = http.client.HTTPConnection(LOOPBACK, address.port, timeout=ANSWER_SECONDS)
    try:
        connection.request(method, path, body, {"authorization": address.key})
        answer = connection.getresponse()
        content = answer.read()
        if answer.status != 200:
            raise http.client.HTTPException(f"{path}: {answer.status}")
        return msgspec.json.decode(content, type=kind)
    finally:
        connection.close()


def _start(home: Home) -> None:
    """Start a supervisor that outlives this process, its terminal and its pipes."""
    home.processes.mkdir(parents=True, exist_ok=True)
    path = home.processes / LOG
    mode = "wb" if path.exists() and path.stat().st_size > MOST_LOG_BYTES else "ab"
    with path.open(mode) as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "mlops.deploy.local.supervisor", str(home.root.absolute()),
             home.environment],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    deadline = time.monotonic() + PATIENCE_SECONDS
    while process.poll() is None and not _is_up(home, process.pid):
        if time.monotonic() > deadline:
            process.kill()
        time.sleep(LOOK_SECONDS)


def _is_up(home: Home, pid: int) -> bool:
    address = home.address() if home.supervised() else None
    return address is not None and address.pid == pid
