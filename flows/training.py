"""The training flow: one task per stage; DVC decides which of them really has to run."""

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
from mlops.pipeline.reproduction import Reproduced
from mlops.pipeline.stage import screen_line
from mlops.registry.register import Registered

ROOT = Path()
RETRIES = 2
# A source may be away for a while; a registry that is away can be asked again by hand.
SOURCE_SECONDS: list[float] = [5, 30]
REGISTRY_SECONDS: list[float] = [1, 5]


def reads_from_outside(task: Task[..., Reproduced], run: TaskRun, state: State[Reproduced]) -> bool:
    """A local source fails the same way twice; one behind a URL may answer the next time."""
    return "://" in params.load(Params, ROOT).data.location


@task(retries=RETRIES, retry_delay_seconds=SOURCE_SECONDS, retry_condition_fn=reads_from_outside)
def ingest(known: tuple[str, ...]) -> Reproduced:
    """Raw tables, checked and kept as Parquet."""
    return screen.shown(reproduction.reproduce("ingest", ROOT, known))


@task
def featurize(known: tuple[str, ...]) -> Reproduced:
    """Features on the engine of `params.yaml`, the holdout set apart."""
    return screen.shown(reproduction.reproduce("featurize", ROOT, known))


@task
def tune(known: tuple[str, ...]) -> Reproduced:
    """The search over families and hyperparameters."""
    return screen.shown(reproduction.reproduce("tune", ROOT, known))


@task
def train(known: tuple[str, ...]) -> Reproduced:
    """The winner, refitted and exported: the bundle."""
    return screen.shown(reproduction.reproduce("train", ROOT, known))


@task
def evaluate(known: tuple[str, ...]) -> Reproduced:
    """The bundle's evidence on the holdout."""
    return screen.shown(reproduction.reproduce("evaluate", ROOT, known))


@task(retries=RETRIES, retry_delay_seconds=REGISTRY_SECONDS)
def register() -> Registered:
    """The bundle as a model version, with the runs that made it."""
    from mlops.registry.register import ensure

    start = time.perf_counter()
    registered = ensure(params.load(Params, ROOT), ROOT)
    how = "run" if registered.new else "unchanged"
    print(screen_line("register", registered.line, time.perf_counter() - start, how))
    return registered


@flow
def training(register_model: bool = True) -> Registered | None:
    """Ingest, featurize, tune, train, evaluate, and register the bundle.

    Without `register_model` the flow ends with the evidence, as a trial on a branch does.
    """
    # What is wrong with it is said better here than by DVC, which reads it too.
    params.load_all(ROOT)
    with reproduction.alone(ROOT):
        known = reproduction.unchanged(ROOT)
        for stage in (ingest, featurize, tune, train, evaluate):
            stage(known)
        registered = register() if register_model else None
        create_markdown_artifact(screen.summary(registered), key="training")
    return registered
