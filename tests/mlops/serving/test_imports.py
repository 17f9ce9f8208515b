"""The service needs none of what makes models: its image and its memory are small for it."""

import subprocess
import sys

HEAVY = ("mlflow", "prefect", "pyspark", "pandas", "dvc", "pyarrow", "sklearn", "scipy", "hyperopt",
         "duckdb", "fastapi", "starlette", "matplotlib", "lightgbm", "xgboost")  # fmt: skip

SCORE = """
import asyncio, json, sys
from mlops.serving import __main__, app
from mlops.serving.service import Service
from mlops.serving.settings import Settings

async def main():
    service = Service(Settings(bundle=sys.argv[1]))
    endpoint = service.endpoint
    rows = endpoint.predict.decode(json.dumps(endpoint.model.card.example).encode())
    outputs, _ = await service.score(endpoint, rows, "1", 1)
    assert endpoint.predict.encode(outputs, "1")
    assert service.metrics.render()

asyncio.run(main())
"""


def test_the_service_imports_nothing_heavy_even_when_it_has_scored(made):
    done = subprocess.run(
        [sys.executable, "-c", f"{SCORE}\nprint(*sys.modules)", made("lightgbm", "binary")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    imported = {name.partition(".")[0] for name in done.stdout.split()}
    assert "onnxruntime" in imported
    assert not imported & set(HEAVY)
