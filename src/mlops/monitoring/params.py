"""The parameters of monitoring: `monitoring:`."""

from __future__ import annotations

from pydantic import Field

from mlops.contract.params import Section
from mlops.data import params


class Monitoring(Section):
    """Where answers are recorded, and the limits of their difference from the reference.

    `source` is the kind of record: `service`, `databricks` or a module's path.
    Without `labels` the project's own tables say what came true, where answers have keys.
    A window is `hours` long; one with fewer than `rows` rows, or labels, is not judged.
    """

    source: str = Field("service", min_length=1)
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
    """The parameters that monitoring reads, those of the source among them."""

    monitoring: Monitoring
