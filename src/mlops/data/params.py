"""The parameters of the data: `data:` and `split:`."""

from __future__ import annotations

import datetime as dt

from pydantic import Field

from mlops.contract import params
from mlops.contract.params import Section


class Data(Section):
    """Where the raw tables come from, and the last day known."""

    source: str = Field(min_length=1)
    location: str = Field(min_length=1)
    until: dt.date = Field(strict=False)


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

    data: Data
    split: Split
