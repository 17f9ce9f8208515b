"""The service needs none of what makes models: its image and its memory are small for it."""

import subprocess
import sys

import pytest

HEAVY = ("mlflow", "prefect", "pyspark", "pandas", "dvc", "pyarrow", "sklearn", "scipy", "hyperopt",
         "duckdb", "fastapi", "starlette", "matplotlib", "lightgbm", "xgboost")  # fmt: skip

SCORE = """
import asyncio, json, sys
from mlops.serving.app import App
from mlops.serving.service import Service
from mlops.serving.settings import Settings

async def main():
    service = Service(Settings(bundle=sys.argv[1]))
    endpoint = service.endpoint
    rows = endpoint.predict.decode(json.dumps(endpoint.model.card.example).encode())
    outputs = await service.score(endpoint, rows, "1")
    assert endpoint.predict.encode(outputs, "1")
    assert service.metrics.render()

asyncio.run(main())
"""


def imported(code, *arguments):
    """The modules that are there after the code has run in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nprint(*sys.modules)", *arguments],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return {name.partition(".")[0] for name in done.stdout.split()}


@pytest.mark.parametrize("module", ["app", "server", "__main__"])
def test_the_service_imports_nothing_heavy(module):
    found = imported(f"import sys, mlops.serving.{module}")
    assert not found & set(HEAVY)


def test_nor_does_it_when_it_has_loaded_a_model_and_scored(made):
    found = imported(SCORE, str(made("lightgbm", "binary")))
    assert "onnxruntime" in found
    assert not found & set(HEAVY)
