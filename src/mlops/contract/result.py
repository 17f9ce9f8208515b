"""The result of a stage: a small summary of its output, saved beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict

from mlops.base import documents
from mlops.contract.paths import RESULT, not_found
from mlops.contract.project import Task

TRIALS = "trials.json"


class Result(BaseModel):
    """A stage's summary of its output; a restored stage prints the same one."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def save(self, folder: Path) -> None:
        """Write the result beside the output that it describes."""
        (folder / RESULT).write_text(self.model_dump_json(indent=2) + "\n")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read the result of an earlier run. Raises UserError when that stage has not run."""
        return documents.load_json(folder / RESULT, cls, not_found(folder / RESULT))


class Tuned(Result):
    """The winner of a search, by its mean `loss` over the validation periods.

    `constant_loss` is that of the mean, or of the class shares, for every row; `no_better` counts
    the trials that do not reach it. `threshold` is None unless the task is binary. `sample` is on
    how many of the training rows the search was made, where not on all.
    """

    task: Task
    family: str
    hyperparameters: dict[str, Any]
    loss: float
    constant_loss: float
    no_better: int
    loss_name: str
    threshold: float | None
    trials: int
    given_up: int
    sample: tuple[int, int] | None = None
