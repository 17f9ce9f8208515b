"""Score a table with the bundle that an environment pins."""

from __future__ import annotations

from pathlib import Path

from prefect import flow, task
from prefect.artifacts import create_table_artifact
from prefect.client.schemas.objects import State
from prefect.states import Completed

from mlops.contract.bundle import REFERENCE
from mlops.contract.paths import BUNDLE
from mlops.deploy import manifest
from mlops.registry import store
from mlops.registry.pin import Pin
from mlops.serving import batch
from mlops.serving.batch import Scored

ROOT = Path()


@task(retries=2, retry_delay_seconds=[5, 30])
def fetch(pin: Pin) -> Path:
    """Fetch the pinned bundle, verified."""
    return store.fetch(pin, ROOT) / BUNDLE


@task
def score(bundle: Path, source: str, output: Path) -> Scored:
    """Score every row of the table; the output is replaced when the new one is whole."""
    return batch.run(bundle, source, output, replace=True)


@flow
def scoring(
    environment: str = "production",
    source: str | None = None,
    output: Path = Path(".run/scored/production.parquet"),
) -> str | State[str]:
    """Score the table `source`, by default the bundle's own reference rows, into `output`.

    Where the environment pins nothing yet the run completes, with a line that says so.
    """
    pin = manifest.load(ROOT, environment).pin
    if pin is None:
        line = f"nothing is deployed yet: {manifest.path(environment)}: pins nothing to score with"
        print(line)
        return Completed(message=line)
    bundle = fetch(pin)
    source = source or str(bundle / REFERENCE)
    result = score(bundle, source, output)
    print(result.line)
    create_table_artifact(
        [{"bundle": pin.digest[:12], "model": pin.model, "version": pin.version,
          "source": source, "output": str(output), "result": result.line}],
        key="scoring",
    )  # fmt: skip
    return result.line
