"""The parameters of the gate: `gate:`."""

from __future__ import annotations

from pydantic import Field

from mlops.contract import params
from mlops.contract.params import Section


class Gate(Section):
    """What a candidate must reach. `limits` are least values, or most where less is better."""

    limits: dict[str, float]
    margin: float = Field(ge=0)
    slice_rows: int = Field(ge=30)
    slice_limit: float | None
    slice_margin: float = Field(ge=0)
    latency_ms: float = Field(gt=0)
    size_mb: float = Field(gt=0)
    draws: int = Field(ge=20)


class Params(params.Params):
    """What the gate reads."""

    gate: Gate
