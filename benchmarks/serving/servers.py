"""The service and its rivals as processes on one core, one worker each."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import psutil

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
SERVER, CLIENT = {CORES[0]}, {CORES[-1]}


@dataclass(frozen=True)
class Server:
    """A running server."""

    port: int
    pid: int

    @property
    def cpu(self) -> float:
        """Seconds of CPU time of the process and its children."""
        times = [member.cpu_times() for member in _tree(self.pid)]
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
    with tempfile.TemporaryFile() as log:
        started = subprocess.Popen(
            command.words, cwd=command.folder, env={**os.environ, **command.variables},
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            preexec_fn=lambda: os.sched_setaffinity(0, SERVER),
        )  # fmt: skip
        try:
            _wait(started, command.port, requests, log)
            yield Server(command.port, started.pid)
        finally:
            for member in _tree(started.pid):
                with suppress(psutil.NoSuchProcess):
                    member.send_signal(signal.SIGKILL)
            started.wait()


def _tree(pid: int) -> list[psutil.Process]:
    try:
        parent = psutil.Process(pid)
        return [parent, *parent.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _wait(started: subprocess.Popen[bytes], port: int, requests: Requests, log: IO[bytes]) -> None:
    url, (_, rest) = f"http://127.0.0.1:{port}{requests.form.path}", requests.rendered[0]
    body = rest.partition(b"\r\n\r\n")[2]
    request = urllib.request.Request(url, body, {"content-type": "application/json"})

    def answers() -> bool:
        with suppress(OSError), urllib.request.urlopen(request, timeout=START_SECONDS):
            return True
        return False

    if not processes.wait(answers, lambda: started.poll() is None, START_SECONDS):
        log.seek(0)
        last = (log.read().decode(errors="replace").strip() or "no output").splitlines()[-1]
        raise Failed(f"{' '.join(started.args)}: does not answer: {last}")  # type: ignore[arg-type]
