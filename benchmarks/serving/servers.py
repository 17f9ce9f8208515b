"""The service and its rivals as processes on one core, one worker each."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import requests

from benchmarks import process
from benchmarks.figure import Failed, progress
from benchmarks.serving.requests import Requests
from benchmarks.serving.rivals.row import VARIABLE
from benchmarks.workspace import BIN, REPOSITORY
from mlops.base import processes, uv
from mlops.base.processes import free_port

RIVALS = "benchmarks.serving.rivals"
MLSERVER_LOCK = Path(__file__).with_name("rivals") / "mlserver.lock"
MLSERVER = REPOSITORY / ".cache/rivals/mlserver"
START_SECONDS = 180.0
CORES = sorted(os.sched_getaffinity(0))


@dataclass(frozen=True)
class Server:
    """A running server."""

    port: int
    pid: int

    @property
    def cpu(self) -> float:
        """Seconds of CPU time of the process and its children."""
        parent = psutil.Process(self.pid)
        times = [member.cpu_times() for member in (parent, *parent.children(recursive=True))]
        return sum(spent.user + spent.system for spent in times)


@dataclass(frozen=True)
class Command:
    """How a server is started."""

    words: tuple[str, ...]
    port: int
    folder: Path = REPOSITORY
    variables: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Commands:
    """How each server is started: the bundle that all serve, and a folder for what they need."""

    bundle: Path
    folder: Path

    def service(self) -> Command:
        """This repository's own service."""
        port = free_port()
        words = ("-m", "mlops.serving", str(self.bundle), "--port", str(port))
        return Command((sys.executable, *words), port)

    def fastapi(self) -> Command:
        """FastAPI on uvicorn, with the loop and the parser of `fastapi[standard]`."""
        port = free_port()
        words = (
            "-m", "uvicorn", f"{RIVALS}.plain:app", "--port", str(port), "--no-access-log",
            "--loop", "uvloop", "--http", "httptools",
        )  # fmt: skip
        return Command((sys.executable, *words), port, variables=self._variables)

    def mlserver(self) -> Command:
        """MLServer, scoring in its own process: another one would share its core."""
        port, folder = free_port(), self.folder / "mlserver"
        folder.mkdir(exist_ok=True)
        settings = {
            "host": "127.0.0.1", "http_port": port, "grpc_port": free_port(),
            "metrics_port": free_port(), "debug": False, "gzip_enabled": False,
            "parallel_workers": 0,
        }  # fmt: skip
        model = {"name": "model", "implementation": f"{RIVALS}.mlserver.Onnx"}
        (folder / "settings.json").write_text(json.dumps(settings))
        (folder / "model-settings.json").write_text(json.dumps(model))
        progress(f"mlserver: its environment, {MLSERVER.relative_to(REPOSITORY)}")
        words = (str(uv.environment(MLSERVER, MLSERVER_LOCK) / "mlserver"), "start", str(folder))
        return Command(words, port, folder, self._variables)

    def mlflow(self) -> Command:
        """`mlflow models serve` of the bundle as the pipeline registers it."""
        port, folder = free_port(), self.folder / "mlflow"
        words = (
            "models", "serve", "--model-uri", self._registered(folder), "--port", str(port),
            "--workers", "1", "--env-manager", "local",
        )  # fmt: skip
        variables = {
            "MLFLOW_TRACKING_URI": f"sqlite:///{folder / 'mlruns/mlflow.db'}",
            # MLflow starts uvicorn by its command line.
            "UVICORN_ACCESS_LOG": "0",
            "PATH": f"{BIN}:/usr/bin:/bin",
        }
        return Command((str(BIN / "mlflow"), *words), port, folder, variables)

    def _registered(self, folder: Path) -> str:
        """The model's URI in a registry of its own."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
        words = ["-m", "benchmarks.serving.registered", str(self.bundle), str(folder)]
        return process.run([sys.executable, *words], REPOSITORY, kept).out.splitlines()[-1]

    @property
    def _variables(self) -> dict[str, str]:
        return {VARIABLE: str(self.bundle), "PYTHONPATH": str(REPOSITORY)}


@contextmanager
def running(command: Command, requests: Requests) -> Iterator[Server]:
    """Start a server and wait for its first answer; raises Failed with its last line otherwise."""
    with tempfile.TemporaryDirectory() as folder:
        log, words = Path(folder, "log"), ["taskset", "--cpu-list", str(CORES[0]), *command.words]
        pid = processes.start(words, log, command.folder, {**os.environ, **command.variables})
        try:
            _wait(Server(command.port, pid), requests, log)
            yield Server(command.port, pid)
        finally:
            processes.stop([pid])


def _wait(server: Server, asked: Requests, log: Path) -> None:
    url, (_, rest) = f"http://{processes.HOST}:{server.port}{asked.form.path}", asked.rendered[0]
    body, headers = rest.partition(b"\r\n\r\n")[2], {"content-type": "application/json"}

    def answers() -> bool:
        with suppress(requests.RequestException):
            return requests.post(url, body, headers=headers, timeout=START_SECONDS).ok
        return False

    if not processes.wait(answers, lambda: processes.runs(server.pid), START_SECONDS):
        last = (log.read_text(errors="replace").strip() or "no output").splitlines()[-1]
        raise Failed(f"{url}: does not answer: {last}")
