"""The retraining flow: newer data, the training, the gate, and one pull request."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

from prefect import flow, task
from prefect.artifacts import create_markdown_artifact

from mlops.base.errors import Refused
from mlops.forge.select import current_forge
from mlops.gitops import report, retrain
from mlops.gitops.retrain import Attempt

ROOT = Path()


@task
def train(attempt: Attempt) -> None:
    """Run the training flow on the newer data, in a working tree of its own."""
    retrain.train(attempt)


@task
def judge(attempt: Attempt) -> None:
    """Run the gate; its report becomes an artifact whether it accepts or refuses."""
    try:
        retrain.judge(attempt)
    finally:
        page = attempt.tree.path / report.FILE
        if page.exists():
            create_markdown_artifact(page.read_text(encoding="utf-8"), key="retraining-report")


@task
def propose(attempt: Attempt) -> str:
    """Open or update the pull request."""
    return retrain.propose(attempt, current_forge())


@flow
def retraining(until: dt.date | None = None, because: str = "on schedule") -> str:
    """Retrain on data until a day (by default the newest) and propose an accepted candidate.

    The outcome is an artifact. A refused candidate fails the run, with the gate's reasons.
    """
    outcome = "ended early; see the run's log"
    try:
        with retrain.begun(ROOT, until, because) as attempt:
            if isinstance(attempt, str):
                outcome = attempt
            else:
                train(attempt)
                judge(attempt)
                outcome = propose(attempt)
    except Refused as refused:
        outcome = str(refused)
        raise
    finally:
        create_markdown_artifact(outcome, key="retraining")
    print(outcome)
    return outcome
