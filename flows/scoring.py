"""Score with the bundle that an environment pins: the coming rows of the source, or a table."""

from __future__ import annotations

from functools import cache, partial
from pathlib import Path

from prefect import flow, task
from prefect.artifacts import create_table_artifact
from prefect.client.schemas.objects import State
from prefect.states import Completed

from mlops.contract import params
from mlops.contract.paths import BUNDLE
from mlops.data.coming import NothingComing
from mlops.deploy import manifest, predict
from mlops.registry import store
from mlops.registry.pin import Pin
from mlops.serving import batch

ROOT = Path()


@task(retries=2, retry_delay_seconds=[5, 30])
def coming(environment: str) -> list[str]:
    """Predict the coming rows, and publish their features so that a service is asked by key."""
    settings, serving = params.load_all(ROOT), manifest.load(ROOT, environment).serving
    # Both use the same rows, and the source is read once.
    rows = cache(partial(predict.rows, settings, ROOT))
    try:
        predicted = predict.predict(settings, ROOT, environment, rows).line
        published = predict.publish(rows(), serving.store, serving.place(environment, ROOT))
        return [predicted, published]
    except NothingComing as reason:
        return [str(reason)]


@task(retries=2, retry_delay_seconds=[5, 30])
def score(pin: Pin, source: str, output: Path) -> list[str]:
    """Score every row of a table; the output is replaced when the new one is whole."""
    bundle = store.fetch(pin, ROOT) / BUNDLE
    return [batch.run(bundle, source, output, replace=True).line]


@flow
def scoring(
    environment: str = "production",
    source: str | None = None,
    output: Path = Path(".run/scored/production.parquet"),
) -> str | State[str]:
    """Predict the coming rows; or score the table `source` into `output`.

    Where the environment pins nothing yet the run completes, with a line that says so.
    """
    pin = manifest.load(ROOT, environment).pin
    if pin is None:
        line = f"nothing is deployed yet: {manifest.path(environment)}: pins nothing to score with"
        print(line)
        return Completed(message=line)
    lines = score(pin, source, output) if source else coming(environment)
    print(*lines, sep="\n")
    create_table_artifact(
        [{"bundle": pin.digest[:12], "model": pin.model, "version": pin.version, "result": line}
         for line in lines],
        key="scoring",
    )  # fmt: skip
    return lines[-1]
