"""The result of a stage: a small summary of its output, saved beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from mlops.base.errors import UserError
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
        path = folder / RESULT
        try:
            return cls.model_validate_json(path.read_text())
        except FileNotFoundError:
            raise UserError(not_found(path)) from None
        except ValidationError as error:
            raise UserError(f"{path}: {' '.join(str(error).split())}") from None


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
