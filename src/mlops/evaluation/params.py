"""The parameters of the evaluation: `evaluate:`."""

from __future__ import annotations

from pydantic import Field

from mlops.contract import params
from mlops.contract.params import Section


class Evaluate(Section):
    """How precisely the holdout is measured, and the project's own metrics.

    `draws` are of the bootstrap; `importance_rows` and `importance_repeats` are of the
    permutation importance; `metrics` are paths of modules.
    """

    draws: int = Field(ge=20)
    importance_rows: int = Field(ge=100)
    importance_repeats: int = Field(ge=1)
    metrics: tuple[str, ...] = Field(default=(), strict=False)


class Params(params.Params):
    """The parameters that evaluate reads."""

    evaluate: Evaluate
