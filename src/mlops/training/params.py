"""The parameters of the training: `tune:` and `train:`."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from mlops.contract.params import Section
from mlops.data import params


class Tune(Section):
    """The search over families and hyperparameters."""

    max_evals: int = Field(ge=1)
    families: tuple[str, ...] = Field(min_length=1, strict=False)
    first_look: float = Field(gt=0, le=1)
    give_up: float = Field(ge=0)
    parallelism: int = Field(ge=1)
    rows: int | None = Field(default=None, ge=100)
    searcher: str = Field(default="hyperopt", min_length=1)


class Train(Section):
    """The final fit and its export."""

    parity: float = Field(gt=0, le=0.01)
    reference_rows: int = Field(ge=1)
    workers: int = Field(default=1, ge=1)


class Params(params.Params):
    """What tune and train read."""

    tune: Tune
    train: Train

    @model_validator(mode="after")
    def _require_distributed(self) -> Self:
        """Raise UserError, before a search, for a family that `train.workers` could not fit."""
        from mlops.training import families

        families.require_distributed(self.tune.families, self.train.workers)
        return self
