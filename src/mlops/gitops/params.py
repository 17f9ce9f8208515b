"""The parameters of the gate: `gate:`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, ValidationInfo

from mlops.contract.params import Section
from mlops.evaluation import params

RULES = ("limits", "champion", "slices", "inputs", "latency", "size")
Limits = dict[str, dict[str, float]]


def _judged(fairness: Limits, others: ValidationInfo) -> Limits:
    """Refuse limits that no rule asks for."""
    if fairness and "fairness" not in others.data.get("rules", ("fairness",)):
        raise ValueError("{}, or the rule `fairness` in gate.rules")
    return fairness


class Gate(Section):
    """What a candidate must reach. `limits` are least values, or most where less is better.

    Without `limits` it must be better than chance, or than the mean; without `margin` it must not
    be surely worse than the champion, which is all that a holdout of few rows can show. Where rows
    are too few even for that, `too_few` decides. `fairness` has limits by column and measure.
    """

    rules: tuple[str, ...] = Field(default=RULES, strict=False, min_length=1)
    fairness: Annotated[Limits, AfterValidator(_judged)] = Field(default_factory=dict)
    limits: dict[str, float] | None = None
    margin: float | None = Field(default=None, ge=0)
    too_few: Literal["refuse", "accept"] = "refuse"
    slice_rows: int = Field(ge=30)
    slice_limit: float | None = None
    slice_margin: float = Field(ge=0)
    latency_ms: float = Field(gt=0)
    size_mb: float = Field(gt=0)
    draws: int = Field(ge=20)


class Params(params.Params):
    """What the gate reads."""

    gate: Gate
