"""The clients in examples/ against a running service, and the tables of docs/serving.md."""

from __future__ import annotations

import json
import os
import re
import secrets
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import apart
from tests.conftest import REPOSITORY
from tests.programs import missing, program
from tests.served import Served, served

EXAMPLES = REPOSITORY / "examples"
PAGE = REPOSITORY / "docs" / "serving.md"
# PySpark brings a Scala compiler.
SCALA = "scala.tools.nsc.MainGenericRunner"


@pytest.fixture(scope="module")
def service(finished, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A regression's bundle behind a token."""
    token = secrets.token_hex()
    bundle = finished("diabetes").root / "models" / "bundle"
    folder = tmp_path_factory.mktemp("examples")
    with served(bundle, folder, "--version=7", MLOPS_SERVING_TOKEN=token) as running:
        running.headers["authorization"] = f"Bearer {token}"
        yield running


@pytest.fixture(scope="module")
def prediction(service: Served) -> Any:
    """The service's prediction for the row that every client sends."""
    answer = service.post("/predict", service.get("/model").json["example"]).json
    # Alone and among others a row's prediction may differ in the last bits.
    return pytest.approx(answer["predictions"][0], rel=1e-6)


@pytest.fixture
def run(service: Served) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run an example, told by its environment where the service is."""
    token = service.headers["authorization"].removeprefix("Bearer ")
    env = {**os.environ, "MLOPS_SERVING_URL": service.url, "MLOPS_SERVING_TOKEN": token}
    return lambda *command, **changed: subprocess.run(
        [str(word) for word in command], cwd=EXAMPLES, env=env | changed, capture_output=True,
        text=True, timeout=120, check=False,
    )  # fmt: skip


def last_line(done: subprocess.CompletedProcess[str]) -> Any:
    """The JSON document that an example prints last."""
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.nightly
def test_curl_predicts_and_fails_where_the_service_refuses(run, prediction):
    program("curl", "apt-get install curl")
    assert last_line(run("./predict.sh"))["predictions"] == [prediction]
    refused = run("./predict.sh", MLOPS_SERVING_TOKEN="wrong")
    assert refused.returncode != 0
    assert "401" in refused.stderr


@pytest.mark.slow
def test_python_predicts(run, prediction):
    assert last_line(run(sys.executable, "predict.py")) == prediction


@pytest.mark.nightly
def test_the_triton_client_predicts(run, prediction, shared):
    lock = EXAMPLES / "triton.lock"
    made = shared.folder("programs-triton", lambda folder: apart.environment(lock, folder))
    answer = last_line(run(made / "bin/python", "predict_v2.py"))
    rows = [dict(zip(answer, values, strict=True)) for values in zip(*answer.values(), strict=True)]
    assert rows == [prediction] * 3


@pytest.mark.nightly
def test_r_predicts(run, prediction):
    script = program("Rscript", "apt-get install r-cran-httr2 r-cran-jsonlite")
    if run(script, "-e", "library(httr2); library(jsonlite)").returncode:
        missing("R has no httr2 or no jsonlite; apt-get install r-cran-httr2 r-cran-jsonlite")
    assert last_line(run(script, "predict.R")) == prediction


@pytest.mark.nightly
@pytest.mark.spark
def test_scala_predicts(run, prediction):
    import pyspark

    java = program("java", "apt-get install openjdk-17-jre-headless")
    jars = [str(jar) for jar in (Path(pyspark.__file__).parent / "jars").glob("scala-*.jar")]
    done = run(java, "-cp", os.pathsep.join(jars), SCALA, "-usejavacp", "Predict.scala")
    assert last_line(done)["predictions"] == [prediction] * 2


@pytest.mark.nightly
def test_javascript_predicts(run, prediction):
    node = program("node", "apt-get install nodejs")
    assert last_line(run(node, "predict.mjs")) == prediction


def table(start: str) -> set[str]:
    """The names in the first column of the page's tables that begin with `start`."""
    return set(re.findall(rf"^\| `({start}[a-z_-]+)", PAGE.read_text(), re.MULTILINE))


def test_the_page_lists_every_option_of_the_service_and_no_other():
    from mlops.serving.settings import parser

    known = {o for action in parser()._actions for o in action.option_strings if "--" in o}
    assert table("--") == known - {"--help"}


def test_the_page_lists_every_metric_of_the_service_and_no_other():
    from mlops.serving.metrics import Metrics

    names = {metric.name for metric in Metrics().registry.collect() if "mlops_" in metric.name}
    assert {name.removesuffix("_total") for name in table("mlops_")} == names


def test_the_page_names_every_example():
    files = {path.name for path in EXAMPLES.iterdir()} - {"triton.lock", "__pycache__"}
    assert {name for name in files if f"examples/{name}" not in PAGE.read_text()} == set()
