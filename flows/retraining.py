"""The retraining flow: newer data, the training, the gate, and one pull request."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

from prefect import flow, task
from prefect.artifacts import create_markdown_artifact

from mlops.base.errors import Refused
from mlops.forge.select import current_forge
from mlops.gitops import report, retrain, verdict
from mlops.gitops.retrain import Attempt

ROOT = Path()


@task
def train(attempt: Attempt) -> None:
    """The training flow on the newer data, in a working tree of its own."""
    retrain.train(attempt)


@task
def judge(attempt: Attempt) -> None:
    """The gate; its report becomes an artifact whether it accepts or refuses."""
    try:
        retrain.judge(attempt)
    finally:
        page = attempt.tree.path / verdict.FOLDER / report.FILE
        if page.exists():
            create_markdown_artifact(page.read_text(encoding="utf-8"), key="retraining-report")


@task
def propose(attempt: Attempt) -> str:
    """One branch, one pull request, opened or updated."""
    return retrain.propose(attempt, current_forge())


@flow
def retraining(until: dt.date | None = None, because: str = "on schedule") -> str:
    """Retrain on data until a day, the newest that the source has, and propose what is good.

    What came of it is an artifact. A refused candidate fails the run, with the gate's reasons.
    """
    said = "ended early; see the run's log"
    try:
        with retrain.begun(ROOT, until, because) as attempt:
            if isinstance(attempt, str):
                said = attempt
            else:
                train(attempt)
                judge(attempt)
                said = propose(attempt)
    except Refused as refused:
        said = str(refused)
        raise
    finally:
        create_markdown_artifact(said, key="retraining")
    print(said)
    return said
