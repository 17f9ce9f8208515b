"""The year's flights as they arrive, month by month; the answers to them, and their labels."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.answers import answer
from mlops.contract import dataset
from mlops.contract.bundle import Array
from mlops.contract.paths import FEATURES, RAW
from mlops.contract.project import Features
from mlops.data import featurize, ingest
from mlops.data.params import Params
from mlops.serving import model

NOON = dt.time(12)


@dataclass(frozen=True)
class Source:
    """The tables of the whole year in `whole`, those of the months so far in `arrived`."""

    whole: Path
    arrived: Path

    def fill(self, params: Params, last: dt.date) -> None:
        """Read the tables of the whole year."""
        ingest.run(until(params, last), self.whole)

    def arrive(self, end: dt.date) -> None:
        """Link the tables up to the month that ends on a day."""
        for file in (self.whole / RAW).glob("*/*.parquet"):
            target = self.arrived / file.parent.name / file.name
            if file.stem <= f"{end:%Y-%m}" or file.stem == "all":
                target.parent.mkdir(parents=True, exist_ok=True)
                if not target.exists():
                    target.hardlink_to(file)

    def month(self, params: Params, end: dt.date, scratch: Path) -> pd.DataFrame:
        """The feature rows of the month that ends on a day, from the tables so far."""
        (scratch / RAW).parent.mkdir(parents=True)
        (scratch / RAW).symlink_to(self.arrived)
        featurize.run(until(params, end, end.day), scratch)
        return dataset.read(scratch / FEATURES / dataset.HOLDOUT)


def until(params: Params, end: dt.date, holdout_days: int | None = None) -> Params:
    """The parameters with another last day, and another length of the holdout."""
    data = params.data.model_copy(update={"until": end})
    days = holdout_days or params.split.holdout_days
    split = params.split.model_copy(update={"holdout_days": days})
    return params.model_copy(update={"data": data, "split": split})


def score(bundle: Path, rows: pd.DataFrame, spec: Features) -> tuple[Array, list[str]]:
    """The probability of each row, in order of the days, and the lines that the service logs.

    A day is one request, dated its noon.
    """
    served = model.load(bundle)
    probabilities, logged = [], []
    for day, asked in dataset.inputs(rows, spec).groupby(rows[spec.day].dt.date):
        noon = dt.datetime.combine(day, NOON, dt.UTC).timestamp()
        (probability,), lines = answer(served, asked, day.isoformat(), noon)
        probabilities.append(probability)
        logged += lines
    return np.concatenate(probabilities), logged


def labels(rows: pd.DataFrame, spec: Features) -> pd.DataFrame:
    """The label of each row, by its request and its position there."""
    request = rows[spec.day].dt.strftime("%Y-%m-%d")
    row = rows.groupby(request).cumcount()
    return pd.DataFrame({"request": request, "row": row, spec.target: rows[spec.target]})
