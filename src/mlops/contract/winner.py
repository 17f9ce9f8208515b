"""The result of a search: read by whatever trains, reports or tracks it."""

from __future__ import annotations

from typing import Any

from mlops.contract.project import Task
from mlops.contract.result import Result

TRIALS = "trials.json"


class Tuned(Result):
    """The winner. `loss` is its mean over the validation periods; `threshold` is None unless the
    task is binary."""

    task: Task
    family: str
    hyperparameters: dict[str, Any]
    loss: float
    loss_name: str
    threshold: float | None
    trials: int
    given_up: int
