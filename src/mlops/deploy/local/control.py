"""Start a supervisor, ask it for its status, and wait until it serves the state."""

from __future__ import annotations

import sys
import time
from typing import Any

import msgspec
import requests

from mlops.base import processes
from mlops.base.errors import UserError
from mlops.base.processes import HOST
from mlops.deploy.local.home import FORM, LOG, PROCESSES, Home, Process, Status

SETTLE_SECONDS, ANSWER_SECONDS, LOOK_SECONDS = 90.0, 30.0, 0.05
# A larger log is begun anew when a supervisor is started.
LOG_BYTES = 10 * 1024 * 1024


def status(home: Home) -> Status | None:
    """What the supervisor reports; None when there is none, or it does not answer."""
    address = home.address()
    if address is None or not home.supervised():
        return None
    try:
        return msgspec.json.decode(call(home, address.port, "/"), type=Status)
    except UserError:
        return None


def process(home: Home, digest: str) -> Process:
    """A bundle's process, waited for until it was ready once, unless that takes too long.

    The supervisor is started again when it is gone. Raises UserError for an unknown bundle.
    """

    def look() -> Process:
        bundles = (status(home) or settle(home)).bundles
        if digest not in bundles:
            raise UserError(f"bundle {digest[:12]}: not deployed in {home.folder}")
        return bundles[digest]

    processes.wait(lambda: look().tried, seconds=ANSWER_SECONDS)
    return look()


def settle(home: Home, digest: str = "") -> Status:
    """Wait until a supervisor serves the state, and a bundle is ready if one is named.

    Raises UserError with the reason when it takes too long, or the process ends repeatedly.
    """
    what = f"bundle {digest[:12]}: is not served" if digest else "the supervisor does not come up"
    log = PROCESSES / home.environment / LOG
    deadline, restarts = time.monotonic() + SETTLE_SECONDS, None
    while time.monotonic() < deadline:
        if not home.supervised():
            _start(home)
        report = status(home)
        if report and report.form != FORM and (address := home.address()):
            processes.stop([address.pid])
        elif report and report.state == home.state() and not report.stopping:
            process = report.bundles.get(digest)
            if not digest or (process and process.ready):
                return report
            if process:
                restarts = process.restarts if restarts is None else restarts
                if process.restarts > restarts + 1:
                    raise UserError(f"{what}: {process.reason}; see {log}")
        time.sleep(LOOK_SECONDS)
    raise UserError(f"{what}: not ready in {SETTLE_SECONDS:.0f} s; see {log}")


def call(home: Home, port: int, path: str, content: Any = None) -> bytes:
    """The answer of one of the environment's processes: to GET, or to POST with JSON.

    Raises UserError for no answer, and for a status other than 200.
    """
    address, place = home.address(), f"{HOST}:{port}{path}"
    token = {"authorization": f"Bearer {address.token}"} if address and address.token else {}
    with requests.Session() as session:
        # No proxy stands before this machine's own processes.
        session.trust_env = False
        try:
            response = session.request(
                "GET" if content is None else "POST", f"http://{place}", json=content,
                headers=token, timeout=ANSWER_SECONDS,
            )  # fmt: skip
        except requests.RequestException as error:
            raise UserError(f"{place}: {error}") from None
    if response.status_code != 200:
        raise UserError(f"{place}: answers {response.status_code}, expected 200")
    return response.content


def _start(home: Home) -> None:
    """Start a supervisor that outlives this process, and wait until it has an address."""
    log = home.processes / LOG
    if log.exists() and log.stat().st_size > LOG_BYTES:
        log.unlink()
    command = [sys.executable, "-m", "mlops.deploy.local.supervisor", str(home.root.absolute())]
    # Its folder must stay as long as it runs.
    pid = processes.start([*command, home.environment], log, home.root)

    def is_up() -> bool:
        address = home.address() if home.supervised() else None
        return address is not None and address.pid == pid

    # Of two that are started at once, one ends.
    processes.wait(is_up, lambda: processes.runs(pid), SETTLE_SECONDS)
