"""The clients in examples/ against a service that runs, and the commands of docs/serving.md."""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlglot
from sqlglot import expressions as sql

from tests import apart
from tests.served import Served, served

REPOSITORY = Path(__file__).parents[1]
EXAMPLES = REPOSITORY / "examples"
PAGE = REPOSITORY / "docs" / "serving.md"
HERE = "127.0.0.1:8080"
# A block of commands and, where one follows, the block with its answer.
BLOCK = re.compile(r"^```bash\n(.*?)^```\n(?:\n```json\n(.*?)^```$)?", re.MULTILINE | re.DOTALL)
# PySpark brings a Scala compiler.
SCALA = "scala.tools.nsc.MainGenericRunner"


@pytest.fixture(scope="module")
def service(finished, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The example project's bundle behind a token."""
    token = secrets.token_hex()
    bundle = finished("flights").root / "models" / "bundle"
    folder = tmp_path_factory.mktemp("examples")
    with served(bundle, folder, "--version=7", MLOPS_SERVING_TOKEN=token) as running:
        running.headers["authorization"] = f"Bearer {token}"
        yield running


@pytest.fixture(scope="module")
def expected(service: Served) -> dict[str, Any]:
    """What the service answers for the example that its clients send."""
    found: dict[str, Any] = service.post("/predict", service.get("/model").json["example"]).json
    return found


def said(service: Served, *command: str | Path, **environment: str) -> str:
    """What an example printed last; it is told by the environment where the service is."""
    token = service.headers["authorization"].removeprefix("Bearer ")
    known = {"MLOPS_SERVING_URL": service.url, "MLOPS_SERVING_TOKEN": token}
    done = subprocess.run(
        [str(word) for word in command], cwd=EXAMPLES, capture_output=True, text=True,
        env={**os.environ, **known, **environment}, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]


def program(name: str) -> str:
    """A program of this machine, or the test is skipped."""
    found = shutil.which(name)
    if not found:
        pytest.skip(f"no {name} on the PATH")
    return found


@pytest.mark.slow
def test_curl_predicts(service, expected):
    program("curl")
    answer = json.loads(said(service, EXAMPLES / "predict.sh"))
    assert answer | {"id": ""} == expected | {"id": ""}


@pytest.mark.slow
def test_a_script_ends_where_the_service_refuses(service):
    program("curl")
    stranger = {"MLOPS_SERVING_URL": service.url, "MLOPS_SERVING_TOKEN": "another"}
    done = subprocess.run(
        [EXAMPLES / "predict.sh"], env={**os.environ, **stranger}, capture_output=True, text=True
    )
    assert done.returncode != 0
    assert "401" in done.stderr


@pytest.mark.slow
def test_python_predicts(service, expected):
    answer = json.loads(said(service, sys.executable, "predict.py"))
    assert answer == expected["predictions"][0]


@pytest.mark.slow
def test_triton_s_client_predicts(service, expected, tmp_path):
    python = tmp_path / "venv" / "bin" / "python"
    apart.environment(EXAMPLES / "triton.lock", tmp_path / "venv")
    answer = json.loads(said(service, python, "predict_v2.py"))
    assert answer == {"probability": [expected["predictions"][0]["probability"]] * 3}


@pytest.mark.slow
def test_r_predicts(service, expected):
    script = program("Rscript")
    there = subprocess.run([script, "-e", "library(httr2)"], capture_output=True)
    if there.returncode:
        pytest.skip("R has no httr2: Debian's package is r-cran-httr2")
    answer = json.loads(said(service, script, "predict.R"))
    assert answer == pytest.approx(expected["predictions"][0], rel=1e-12)


@pytest.mark.slow
@pytest.mark.spark
def test_scala_predicts(service, expected):
    java = program("java")
    import pyspark

    jars = [str(jar) for jar in (Path(pyspark.__file__).parent / "jars").glob("scala-*.jar")]
    path = os.pathsep.join(jars)
    answer = json.loads(said(service, java, "-cp", path, SCALA, "-usejavacp", "Predict.scala"))
    assert answer["predictions"] == expected["predictions"] * 2


@pytest.mark.slow
def test_javascript_predicts(service, expected):
    answer = json.loads(said(service, program("node"), "predict.mjs"))
    assert answer == expected["predictions"][0]


def test_the_query_is_databricks_own_sql_and_names_every_column_of_the_model():
    from flights.features import FEATURES, KEY

    query = sqlglot.parse_one((EXAMPLES / "predict.sql").read_text(), dialect="databricks")
    words = {word.name: word.expression for word in query.find_all(sql.Kwarg)}
    assert set(words) == {"request", "returnType"}
    names = [literal.name for literal in words["request"].find_all(sql.Literal)]
    fields = [column.name for column in words["request"].find_all(sql.Column)]
    assert sorted(names or fields) == sorted(fields) == sorted(FEATURES)
    assert query.find(sql.Select).expressions[0].name == KEY
    result = sql.DataType.build(words["returnType"].name, dialect="databricks")
    assert [field.name for field in result.expressions] == ["probability"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["predict.sh"])
def test_the_shell_script_is_checked(name):
    subprocess.run(["shellcheck", EXAMPLES / name], check=True)


def blocks() -> list[tuple[str, str]]:
    """The page's commands that call the service, with the answers that it shows."""
    return [(c, a) for c, a in BLOCK.findall(PAGE.read_text()) if HERE in c]


@pytest.mark.slow
def test_the_page_s_commands_do_what_it_says(service, tmp_path):
    token = service.headers["authorization"].removeprefix("Bearer ")
    for commands, answer in blocks():
        here = commands.replace(HERE, f"127.0.0.1:{service.port}")
        if "MLOPS_SERVING_TOKEN" not in here:
            here = here.replace("curl ", f"curl --oauth2-bearer {token} ")
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", here], cwd=tmp_path, capture_output=True, text=True,
            env={**os.environ, "MLOPS_SERVING_TOKEN": token},
        )  # fmt: skip
        assert done.returncode == 0, f"{commands}{done.stderr}"
        if answer:
            assert alike(json.loads(done.stdout), json.loads(answer)), f"{commands}{done.stdout}"
    assert len(blocks()) >= 6


def alike(found: Any, shown: Any) -> bool:
    """Whether two answers have the same form, and refuse in the same words."""
    if isinstance(shown, dict):
        return (
            isinstance(found, dict)
            and set(found) == set(shown)
            and all(alike(found[name], shown[name]) for name in shown)
            and found.get("error") == shown.get("error")
        )
    if isinstance(shown, list):
        return len(found) == len(shown) and all(map(alike, found, shown))
    return type(found) is type(shown)


def test_every_option_of_the_service_stands_on_the_page_and_no_other():
    from mlops.serving.settings import parser

    known = {o for action in parser()._actions for o in action.option_strings if "--" in o}
    table = set(re.findall(r"^\| `(--[a-z-]+)", PAGE.read_text(), re.MULTILINE))
    assert table == known - {"--help"}


def test_every_metric_of_the_service_stands_on_the_page_and_no_other():
    source = (REPOSITORY / "src" / "mlops" / "serving" / "metrics.py").read_text()
    names = set(re.findall(r'"(mlops_[a-z_]+)"', source))
    page = set(re.findall(r"^\| `(mlops_[a-z_]+)", PAGE.read_text(), re.MULTILINE))
    assert {name.removesuffix("_total") for name in page} == names


def test_every_example_stands_on_the_page():
    files = {path.name for path in EXAMPLES.iterdir()} - {"triton.lock", "__pycache__"}
    assert {name for name in files if f"examples/{name}" not in PAGE.read_text()} == set()
