"""The training flow: one task per stage; DVC decides which stages have to run."""

from __future__ import annotations

import time
from pathlib import Path

from prefect import flow, task
from prefect.artifacts import create_markdown_artifact
from prefect.client.schemas.objects import State, TaskRun
from prefect.tasks import Task

from flows import screen
from mlops.contract import params
from mlops.data.params import Params
from mlops.pipeline import reproduction
from mlops.pipeline.lines import screen_line
from mlops.pipeline.reproduction import Reproduced
from mlops.registry.register import Registered

ROOT = Path()
RETRIES = 2
# Seconds between the tries: longer for a data source; registering can be repeated by hand.
SOURCE_SECONDS: list[float] = [5, 30]
REGISTRY_SECONDS: list[float] = [1, 5]


def reads_remote_source(
    task: Task[..., Reproduced], run: TaskRun, state: State[Reproduced]
) -> bool:
    """Retry only a source behind a URL: a local one would fail in the same way."""
    return "://" in params.load(Params, ROOT).data.location


@task(retries=RETRIES, retry_delay_seconds=SOURCE_SECONDS, retry_condition_fn=reads_remote_source)
def ingest(unchanged: tuple[str, ...]) -> Reproduced:
    """Read and validate the raw tables, and store them as Parquet."""
    return screen.shown(reproduction.reproduce("ingest", ROOT, unchanged))


@task
def featurize(unchanged: tuple[str, ...]) -> Reproduced:
    """Compute features on the engine of `params.yaml`, and split off the holdout."""
    return screen.shown(reproduction.reproduce("featurize", ROOT, unchanged))


@task
def tune(unchanged: tuple[str, ...]) -> Reproduced:
    """Search over families and hyperparameters."""
    return screen.shown(reproduction.reproduce("tune", ROOT, unchanged))


@task
def train(unchanged: tuple[str, ...]) -> Reproduced:
    """Refit the winner and export it as the bundle."""
    return screen.shown(reproduction.reproduce("train", ROOT, unchanged))


@task
def evaluate(unchanged: tuple[str, ...]) -> Reproduced:
    """Measure the bundle on the holdout: its evidence."""
    return screen.shown(reproduction.reproduce("evaluate", ROOT, unchanged))


@task(retries=RETRIES, retry_delay_seconds=REGISTRY_SECONDS)
def register() -> Registered:
    """Register the bundle as a model version, with the runs that made it."""
    from mlops.registry.register import ensure

    start = time.perf_counter()
    registered = ensure(params.load(Params, ROOT), ROOT)
    how = "run" if registered.new else "unchanged"
    print(screen_line("register", registered.model_dump(), time.perf_counter() - start, how))
    return registered


@flow
def training(register_model: bool = True) -> Registered | None:
    """Ingest, featurize, tune, train, evaluate, and register the bundle.

    Without `register_model` the flow ends with the evidence, as a trial on a branch does.
    """
    # DVC reads the file too, with less helpful errors.
    params.load_all(ROOT)
    with reproduction.alone(ROOT):
        unchanged = reproduction.unchanged(ROOT)
        for stage in (ingest, featurize, tune, train, evaluate):
            stage(unchanged)
        registered = register() if register_model else None
        create_markdown_artifact(screen.summary(registered), key="training")
    return registered
