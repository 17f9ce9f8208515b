"""The MLflow and Prefect servers of `make up`, on this machine's data, loopback only."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path

import psutil

from mlops.core.errors import UserError
from mlops.core.files import alone
from mlops.core.paths import SERVERS

HOST = "127.0.0.1"
HEALTH = {"mlflow": "/health", "prefect": "/api/health"}
VARIABLES = {"mlflow": ("MLFLOW_TRACKING_URI", ""), "prefect": ("PREFECT_API_URL", "/api")}
PORTS = {"mlflow": 5000, "prefect": 4200}
# MLflow's jobs judge the answers of language models: seven processes that wait in vain here.
ENVIRONMENT = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
START_SECONDS = 180.0
STOP_SECONDS = 20.0


def up(root: Path = Path()) -> dict[str, str]:
    """Start both servers, wait until they answer, and give their addresses.

    Those already running are kept. Raises UserError with the log's place when one does not start.
    """
    known = running(root)
    if known:
        return known
    # One may have died without the other.
    down(root)
    (root / SERVERS).parent.mkdir(exist_ok=True)
    # A port is free until its server has it: two that start at once would choose the same.
    with alone(Path(tempfile.gettempdir())):
        urls = {name: f"http://{HOST}:{_free_port(port)}" for name, port in PORTS.items()}
        pids = {name: _spawn(name, url, root) for name, url in urls.items()}
        (root / SERVERS).write_text(json.dumps({"urls": urls, "pids": pids}) + "\n")
        for name, url in urls.items():
            _wait(name, url, pids[name], root)
    return urls


def down(root: Path = Path()) -> list[str]:
    """Stop the servers that `up` started, and give the names of those that still ran."""
    started = _started(root)
    for pid in started.values():
        _signal_group(pid, signal.SIGTERM)
    deadline = time.monotonic() + STOP_SECONDS
    while any(_is(pid, name) for name, pid in started.items()) and time.monotonic() < deadline:
        time.sleep(0.1)
    for pid in started.values():
        _signal_group(pid, signal.SIGKILL)
    (root / SERVERS).unlink(missing_ok=True)
    return list(started)


def running(root: Path = Path()) -> dict[str, str]:
    """The addresses of this folder's servers, when both answer."""
    try:
        urls: dict[str, str] = json.loads((root / SERVERS).read_text())["urls"]
    except (FileNotFoundError, ValueError):
        return {}
    return urls if all(_answers(url + HEALTH[name]) for name, url in urls.items()) else {}


def use(root: Path = Path()) -> dict[str, str]:
    """Point this process at the running servers, where its environment names no others."""
    urls = running(root)
    for name, url in urls.items():
        variable, path = VARIABLES[name]
        os.environ.setdefault(variable, url + path)
    return urls


def _spawn(name: str, url: str, root: Path) -> int:
    port = url.rsplit(":", 1)[1]
    store = (root / "mlruns").resolve()
    store.mkdir(exist_ok=True)
    # Artifacts are plain files, so that a run without the servers finds them too.
    commands = {
        "mlflow": [
            "-m", "mlflow", "server", "--host", HOST, "--port", port, "--workers", "1",
            "--backend-store-uri", f"sqlite:///{store / 'mlflow.db'}",
            "--no-serve-artifacts", "--default-artifact-root", (store / "artifacts").as_uri(),
        ],
        "prefect": ["-m", "prefect", "server", "start", "--host", HOST, "--port", port],
    }  # fmt: skip
    with _log(name, root).open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, *commands[name]],
            cwd=root,
            env=ENVIRONMENT | os.environ,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    return process.pid


def _log(name: str, root: Path) -> Path:
    (root / "logs").mkdir(exist_ok=True)
    return root / "logs" / f"{name}-server.log"


def _wait(name: str, url: str, pid: int, root: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not _answers(url + HEALTH[name]):
        if not _is(pid, name) or time.monotonic() > deadline:
            down(root)
            raise UserError(f"{name} server did not start; see {_log(name, root)}")
        time.sleep(0.2)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _free_port(wanted: int) -> int:
    """The usual port where it is free, else any that is."""
    for port in (wanted, 0):
        with socket.socket() as probe:
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise UserError(f"{HOST}: no free port")


def _started(root: Path) -> dict[str, int]:
    try:
        pids: dict[str, int] = json.loads((root / SERVERS).read_text())["pids"]
    except (FileNotFoundError, ValueError):
        return {}
    return {name: pid for name, pid in pids.items() if _is(pid, name)}


def _is(pid: int, name: str) -> bool:
    """Whether the process is that server: after a restart its number may be another's."""
    try:
        return {name, "server"} <= set(psutil.Process(pid).cmdline())
    except psutil.Error:
        return False


def _signal_group(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(pid, number)
