"""How the service and each of its rivals are started, one worker each."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from benchmarks import process
from benchmarks.serving import environment
from benchmarks.serving.machine import free_port
from benchmarks.serving.rivals.row import VARIABLE
from benchmarks.serving.server import Command
from benchmarks.workspace import BIN, REPOSITORY

RIVALS = "benchmarks.serving.rivals"


@dataclass(frozen=True)
class Stand:
    """The bundle that all serve, a folder for what they need beside it, the model's name."""

    bundle: Path
    folder: Path
    name: str

    def service(self) -> Command:
        """This repository's own."""
        port = free_port()
        words = ("-m", "mlops.serving", str(self.bundle), "--port", str(port))
        return Command((sys.executable, *words), port, self.folder)

    def trivial(self) -> Command:
        """The same bytes for everybody."""
        port = free_port()
        words = ("-m", "benchmarks.serving.trivial", str(port))
        return Command((sys.executable, *words), port, REPOSITORY)

    def fastapi(self) -> Command:
        """FastAPI on uvicorn, with the loop and the parser of `fastapi[standard]`."""
        port = free_port()
        words = (
            "-m", "uvicorn", f"{RIVALS}.plain:app", "--port", str(port), "--no-access-log",
            "--loop", "uvloop", "--http", "httptools",
        )  # fmt: skip
        return Command((sys.executable, *words), port, REPOSITORY, self._variables)

    def bentoml(self) -> Command:
        """BentoML, one worker."""
        port, program = free_port(), environment.programs("bentoml") / "bentoml"
        words = ("serve", f"{RIVALS}.bentoml:Service", "--host", "127.0.0.1", "--port", str(port))
        home = {"BENTOML_HOME": str(self.folder / "bentoml"), "BENTOML_DO_NOT_TRACK": "True"}
        return Command((str(program), *words), port, REPOSITORY, self._variables | home)

    def mlserver(self) -> Command:
        """MLServer, scoring in its own process: another one would share its core."""
        program, port = environment.programs("mlserver") / "mlserver", free_port()
        place = self.folder / "mlserver"
        place.mkdir(exist_ok=True)
        settings = {
            "host": "127.0.0.1", "http_port": port, "grpc_port": free_port(),
            "metrics_port": free_port(), "debug": False, "gzip_enabled": False,
            "parallel_workers": 0,
        }  # fmt: skip
        model = {"name": "model", "implementation": f"{RIVALS}.mlserver.Onnx"}
        (place / "settings.json").write_text(json.dumps(settings))
        (place / "model-settings.json").write_text(json.dumps(model))
        return Command((str(program), "start", str(place)), port, place, self._variables)

    def mlflow(self) -> Command:
        """`mlflow models serve` of the bundle as the pipeline registers it."""
        port, place = free_port(), self.folder / "mlflow"
        words = (
            "models", "serve", "--model-uri", self._registered(place), "--port", str(port),
            "--workers", "1", "--env-manager", "local",
        )  # fmt: skip
        variables = {
            "MLFLOW_TRACKING_URI": f"sqlite:///{place / 'mlruns/mlflow.db'}",
            # MLflow starts uvicorn by its command line.
            "UVICORN_ACCESS_LOG": "0",
            "PATH": f"{BIN}:/usr/bin:/bin",
        }
        return Command((str(BIN / "mlflow"), *words), port, place, variables)

    def _registered(self, place: Path) -> str:
        """The model's URI in a registry of its own."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
        words = [
            sys.executable,
            "-m",
            "benchmarks.serving.registered",
            str(self.bundle),
            str(place),
        ]
        return process.run(words, REPOSITORY, kept).out.splitlines()[-1]

    @property
    def _variables(self) -> dict[str, str]:
        return {VARIABLE: str(self.bundle), "PYTHONPATH": str(REPOSITORY)}
