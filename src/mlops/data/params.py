"""The parameters of the data: `data:` and `split:`."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, ConfigDict, Field, ValidationInfo

from mlops.contract import params
from mlops.contract.params import Section
from mlops.contract.paths import WRITERS


def apart_from_outputs(location: str) -> str:
    """Refuse a place that a stage replaces, or that holds or lies in one: the files would go."""
    protocol, _, path = location.rpartition("://")
    if protocol in ("", "file", "local"):
        place = Path(path).expanduser().resolve()
        for output, stage in WRITERS.items():
            own = output.resolve()
            if place.is_relative_to(own) or own.is_relative_to(place):
                raise ValueError(f"a folder apart from {output}, which {stage} writes")
    return location


class Data(Section):
    """Where the raw tables come from, and the last day known; None where no row has a day.

    `versions` pins tables of a source that holds versions. Without `copy` the engine reads the
    tables where they lie.
    """

    model_config = ConfigDict(serialize_by_alias=True)

    source: str = Field(min_length=1)
    location: Annotated[str, Field(min_length=1), AfterValidator(apart_from_outputs)]
    until: dt.date | None = Field(default=None, strict=False)
    # A pydantic model has a method of that name.
    copied: bool = Field(default=True, alias="copy")
    versions: dict[str, int] = Field(default_factory=dict)


# The source and the engine that read tables where they lie.
IN_PLACE = "spark"


def _readable_in_place(data: Data, others: ValidationInfo) -> Data:
    """Refuse to leave tables where they lie, where the engine cannot read them."""
    engine = others.data.get("engine", "spark")
    if not data.copied and (data.source, engine) != (IN_PLACE, IN_PLACE):
        raise ValueError("copy: true, or source: spark and engine: spark")
    return data


class Split(Section):
    """The split by time, backwards from `data.until`; all in days but `folds`.

    Where rows have no day, a hash of the key holds out `holdout_share` and makes the folds.
    """

    holdout_days: int = Field(ge=1)
    validation_days: int = Field(ge=1)
    folds: int = Field(ge=1, le=12)
    holdout_share: float = Field(default=0.2, gt=0, lt=1)


class Params(params.Params):
    """What ingest and featurize read."""

    data: Annotated[Data, AfterValidator(_readable_in_place)]
    split: Split
