"""The MLflow and Prefect servers of `make up`, on this machine's data, loopback only."""

from __future__ import annotations

import os
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from mlops.base import processes
from mlops.base.errors import UserError
from mlops.base.files import alone, read_json, write_json
from mlops.base.processes import HOST
from mlops.contract.paths import SERVERS

PORTS = {"mlflow": 5000, "prefect": 4200}
HEALTH = {"mlflow": "/health", "prefect": "/api/health"}
VARIABLES = {"mlflow": ("MLFLOW_TRACKING_URI", ""), "prefect": ("PREFECT_API_URL", "/api")}
# MLflow's job processes are for evaluating language models; neither server may send telemetry.
ENVIRONMENT = {
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "1",
}


def up(root: Path = Path()) -> dict[str, str]:
    """Start both servers, wait until they answer, and return their addresses.

    Those already running are kept. Raises UserError with the log's place when one does not start.
    """
    urls = running(root)
    if urls:
        return urls
    # One may have died without the other.
    down(root)
    (root / SERVERS).parent.mkdir(exist_ok=True)
    # A port is free until its server has it: two that start at once would choose the same.
    with alone(Path(tempfile.gettempdir())):
        urls = {n: f"http://{HOST}:{processes.free_port(port)}" for n, port in PORTS.items()}
        pids = {name: _start(name, url, root) for name, url in urls.items()}
        write_json(root / SERVERS, {"urls": urls, "pids": pids})
        for name, url in urls.items():
            _require_answer(name, url + HEALTH[name], pids[name], root)
    return urls


def down(root: Path = Path()) -> list[str]:
    """Stop the servers that `up` started, and return the names of those that still ran."""
    # After a restart of the machine, the number of a server may be another process's.
    pids = {name: pid for name, pid in _state(root)["pids"].items() if _runs(pid, name)}
    processes.stop(list(pids.values()))
    (root / SERVERS).unlink(missing_ok=True)
    return list(pids)


def running(root: Path = Path()) -> dict[str, str]:
    """The addresses of this folder's servers, when both answer."""
    urls: dict[str, str] = _state(root)["urls"]
    answer = all(processes.answers(url + HEALTH[name]) for name, url in urls.items())
    return urls if answer else {}


def use(root: Path = Path()) -> dict[str, str]:
    """Point this process at the running servers, where its environment names no others."""
    urls = running(root)
    for name, url in urls.items():
        variable, path = VARIABLES[name]
        os.environ.setdefault(variable, url + path)
    return urls


def _start(name: str, url: str, root: Path) -> int:
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
    command = [sys.executable, *commands[name]]
    return processes.start(command, _log(name, root), root, ENVIRONMENT | os.environ)


def _log(name: str, root: Path) -> Path:
    return root / "logs" / f"{name}-server.log"


def _require_answer(name: str, url: str, pid: int, root: Path) -> None:
    if not processes.wait(lambda: processes.answers(url), lambda: _runs(pid, name)):
        down(root)
        raise UserError(f"{name} server did not start; see {_log(name, root)}")


def _state(root: Path) -> dict[str, Any]:
    """The servers' addresses and process numbers by their names; none when there is no file."""
    with suppress(FileNotFoundError, ValueError):
        state: dict[str, Any] = read_json(root / SERVERS)
        return state
    return {"urls": {}, "pids": {}}


def _runs(pid: int, name: str) -> bool:
    return processes.is_command(pid, name, "server")
