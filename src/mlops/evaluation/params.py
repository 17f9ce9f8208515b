"""The parameters of the evaluation: `evaluate:`."""

from __future__ import annotations

from pydantic import Field

from mlops.contract import params
from mlops.contract.params import Section


class Evaluate(Section):
    """How precisely the holdout is measured."""

    draws: int = Field(ge=20)
    importance_rows: int = Field(ge=100)
    importance_repeats: int = Field(ge=1)


class Params(params.Params):
    """What evaluate reads."""

    evaluate: Evaluate
