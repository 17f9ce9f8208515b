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
from mlops.contract.stages import MADE_BY_DVC
from mlops.data.params import Params
from mlops.pipeline import reproduction
from mlops.pipeline.lines import screen_line
from mlops.pipeline.reproduction import Reproduced
from mlops.registry.register import Registered

ROOT = Path()


def reads_remote_source(
    task: Task[..., Reproduced], run: TaskRun, state: State[Reproduced]
) -> bool:
    """Retry only a source behind a URL: a local one would fail in the same way."""
    return "://" in params.load(Params, ROOT).data.location


@task
def reproduce(stage: str) -> Reproduced:
    """Run or restore one stage, and print its line."""
    return screen.shown(reproduction.reproduce(stage, ROOT))


STAGES = {stage: reproduce.with_options(name=stage) for stage in MADE_BY_DVC}
# Longer waits for a data source; registering can be repeated by hand.
STAGES["ingest"] = STAGES["ingest"].with_options(
    retries=2, retry_delay_seconds=[5, 30], retry_condition_fn=reads_remote_source
)


@task(retries=2, retry_delay_seconds=[1, 5])
def register() -> Registered:
    """Register the bundle as a model version, with the runs that made it."""
    from mlops.registry.register import run

    start = time.perf_counter()
    registered = run(params.load(Params, ROOT), ROOT)
    how = "run" if registered.new else "unchanged"
    print(screen_line("register", registered.model_dump(), time.perf_counter() - start, how))
    return registered


@flow
def training(register_model: bool = True) -> Registered | None:
    """Ingest, featurize, tune, train, evaluate, and register the bundle.

    Without `register_model` the flow ends with the evidence, as a trial on a branch does.
    `python -m flows training` locks the workspace for it.
    """
    for stage, run in STAGES.items():
        run(stage)
    registered = register() if register_model else None
    create_markdown_artifact(screen.summary(registered), key="training")
    return registered
