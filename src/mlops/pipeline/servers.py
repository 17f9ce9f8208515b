"""The MLflow and Prefect servers of `make up`, on this machine's data, loopback only."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

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
    """Start the servers that do not answer, wait until they do, and return both addresses.

    A server that died comes back at its address. Raises UserError with the log's place when one
    does not start.
    """
    (root / SERVERS).parent.mkdir(exist_ok=True)
    # A port is free until its server has it: two that start at once would choose the same.
    with alone(Path(tempfile.gettempdir())):
        answering, (urls, pids) = running(root), _state(root)
        lost = [name for name in PORTS if name not in answering]
        _stop(lost, root)
        for name in lost:
            port = processes.free_port(urlsplit(urls.get(name, "")).port or PORTS[name])
            urls[name] = f"http://{HOST}:{port}"
            pids[name] = _start(name, urls[name], root)
        write_json(root / SERVERS, {"urls": urls, "pids": pids})
        for name in lost:
            health, pid = urls[name] + HEALTH[name], pids[name]
            if not processes.wait(partial(processes.answers, health), partial(processes.runs, pid)):
                _stop(lost, root)
                raise UserError(f"{name} server did not start; see {_log(name, root)}")
    return urls


def down(root: Path = Path()) -> list[str]:
    """Stop the servers that `up` started, and return the names of those that still ran."""
    stopped = _stop(PORTS, root)
    (root / SERVERS).unlink(missing_ok=True)
    return stopped


def left(root: Path = Path()) -> list[str]:
    """What else of this project runs in the folder: a worker, its runs, deployed services."""
    return [
        f"{' '.join(command[2:])} (process {pid})"
        for pid, _, command in processes.working_in(root)
        if command[1:2] == ["-m"] and command[2].split(".")[0] in ("flows", "mlops", "prefect")
    ]


def running(root: Path = Path()) -> dict[str, str]:
    """The addresses of this folder's servers that answer."""
    (urls, _), ours = _state(root), _pids(root)
    return {n: url for n, url in urls.items() if n in ours and processes.answers(url + HEALTH[n])}


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


def _stop(names: Iterable[str], root: Path) -> list[str]:
    """Stop servers, and return the names of those that still ran."""
    pids = _pids(root)
    still = [name for name in names if name in pids]
    processes.stop([pids[name] for name in still])
    return still


def _pids(root: Path) -> dict[str, int]:
    """The servers that run in this folder: after a restart, numbers may be another's."""
    pids = _state(root)[1]
    # Every process of the machine is looked at: not where none was started.
    groups = {group for _, group, _ in processes.working_in(root)} if pids else ()
    return {name: pid for name, pid in pids.items() if pid in groups}


def _state(root: Path) -> tuple[dict[str, str], dict[str, int]]:
    """The servers' addresses and process numbers by their names; none when there is no file."""
    with suppress(FileNotFoundError, ValueError):
        state = read_json(root / SERVERS)
        return state["urls"], state["pids"]
    return {}, {}
