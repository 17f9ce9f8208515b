"""Scores a table with the bundle that an environment pins, whatever a registry says."""

from __future__ import annotations

from pathlib import Path

from prefect import flow, task
from prefect.artifacts import create_table_artifact

from mlops.base.errors import UserError
from mlops.contract.bundle import REFERENCE
from mlops.contract.paths import BUNDLE
from mlops.deploy import manifest
from mlops.registry import store
from mlops.registry.pin import Pin
from mlops.serving import batch
from mlops.serving.batch.output import Receipt

ROOT = Path()


@task(retries=2, retry_delay_seconds=[5, 30])
def fetch(pin: Pin) -> Path:
    """The pinned bundle, verified."""
    return store.fetch(pin, ROOT) / BUNDLE


@task
def score(bundle: Path, source: str, output: Path) -> Receipt:
    """Every row of the table; what was scored before it was interrupted is kept."""
    return batch.run(bundle, source, output)


@flow
def scoring(
    environment: str = "production",
    source: str | None = None,
    output: Path = Path(".run/scored/production"),
) -> str:
    """Score what `source` names, the bundle's own reference rows if nothing, into `output`.

    Raises UserError when the environment pins nothing.
    """
    pin = manifest.load(ROOT, environment).pin
    if pin is None:
        raise UserError(f"environments/{environment}.yaml: pins nothing to score with")
    bundle = fetch(pin)
    source = source or str(bundle / REFERENCE)
    receipt = score(bundle, source, output)
    print(receipt.line)
    create_table_artifact(
        [{"bundle": pin.digest[:12], "model": pin.model, "version": pin.version,
          "source": source, "output": str(output), "result": receipt.line}],
        key="scoring",
    )  # fmt: skip
    return receipt.line
