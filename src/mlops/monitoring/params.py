"""The parameters of monitoring: `monitoring:`."""

from __future__ import annotations

from pydantic import Field

from mlops.contract import params
from mlops.contract.params import Section


class Monitoring(Section):
    """Where the service's answers lie, and by how much they may differ from the reference.

    A window is `hours` long; `rows` is the fewest of it, and of its labels, to judge it by.
    """

    logs: str = Field(min_length=1)
    labels: str | None = Field(min_length=1)
    hours: int = Field(ge=1, le=24 * 366)
    windows: int = Field(ge=1, le=12)
    rows: int = Field(ge=30)
    ignore: tuple[str, ...] = Field(strict=False)
    drift: float = Field(gt=0)
    share: float = Field(gt=0, le=1)
    scores: float = Field(gt=0)
    missing: float = Field(gt=0, le=1)
    unseen: float = Field(gt=0, le=1)
    performance: float = Field(ge=0)
    calibration: float = Field(ge=0)


class Params(params.Params):
    """What monitoring reads."""

    monitoring: Monitoring
