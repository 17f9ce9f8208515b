"""The example's notebooks in SQL, R and Scala, each by its own language's program."""

import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pyspark
import pytest

from tests.conftest import REPOSITORY, Workspace
from tests.programs import missing, program

NOTEBOOKS = REPOSITORY / "notebooks"
SPARK = Path(pyspark.__file__).parent / "bin"
SHELL = ["--master=local[2]", "--conf=spark.ui.enabled=false", "--conf=spark.driver.host=127.0.0.1"]

pytestmark = pytest.mark.nightly


@pytest.fixture
def late(example: Workspace) -> Callable[[str], dict[str, float]]:
    """The share of late flights by a column of the flights, to three digits."""
    flights = pd.read_parquet(example.root / "data/raw/flights").dropna(subset=["arr_delay"])
    shares = (flights["arr_delay"] > 15).groupby
    return lambda column: {str(k): round(v, 3) for k, v in shares(flights[column]).mean().items()}


def run(*words: object, root: Path) -> str:
    environment = {**os.environ, "SPARK_LOCAL_IP": "127.0.0.1", "PYTHONPATH": "src"}
    done = subprocess.run(
        [str(word) for word in words], cwd=root, env=environment, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "rror:" not in done.stdout, done.stdout
    return done.stdout


def rows(pattern: str, text: str) -> dict[str, float]:
    return {key: round(float(share), 3) for key, share in re.findall(pattern, text, re.MULTILINE)}


def test_sql(example: Workspace, late: Any) -> None:
    program("java", "apt-get install openjdk-17-jre-headless")
    memory = "--conf=spark.sql.catalogImplementation=in-memory"
    printed = run(
        SPARK / "spark-sql", *SHELL, memory, "-f", NOTEBOOKS / "explore.sql", root=example.root
    )
    assert rows(r"^([A-Z]{3})\t\d+\t([\d.]+)$", printed) == late("origin")
    assert rows(r"^(\d+)\t\d+\t([\d.]+)$", printed) == late("hour")


def test_scala(example: Workspace, late: Any) -> None:
    program("java", "apt-get install openjdk-17-jre-headless")
    printed = run(
        SPARK / "spark-shell", *SHELL, "-I", NOTEBOOKS / "explore.scala", root=example.root
    )
    assert rows(r"^\| +(\w\w)\| +\d+\| *([\d.]+)\|$", printed) == late("carrier")


def test_r(example: Workspace, late: Any) -> None:
    script = program("Rscript", "apt-get install r-cran-reticulate")
    if subprocess.run([script, "-e", "library(reticulate)"], capture_output=True).returncode:
        missing("R has no reticulate; apt-get install r-cran-reticulate")
    printed = run(script, NOTEBOOKS / "explore.R", root=example.root)
    assert rows(r"^\d+ +(\d+) +\d+ +([\d.]+)$", printed) == late("hour")
