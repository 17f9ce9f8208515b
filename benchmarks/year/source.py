"""The year's flights as they become known: raw tables by month, and the features of a month."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from mlops.contract import dataset
from mlops.contract.paths import FEATURES, RAW
from mlops.data import featurize, ingest
from mlops.data.params import Params


@dataclass(frozen=True)
class Source:
    """All tables of the year lie in `whole`, those of the months until now in `known`."""

    whole: Path
    known: Path

    def fill(self, params: Params, last: dt.date) -> None:
        """Read the year once; nothing of it is known yet."""
        ingest.run(until(params, last), self.whole)

    def arrive(self, end: dt.date) -> None:
        """Let everything up to the last day of a month be known."""
        for file in (self.whole / RAW).glob("*/*.parquet"):
            target = self.known / file.parent.name / file.name
            if file.stem <= f"{end:%Y-%m}" or file.stem == "all":
                target.parent.mkdir(parents=True, exist_ok=True)
                if not target.exists():
                    target.hardlink_to(file)

    def month(self, params: Params, end: dt.date, scratch: Path) -> pd.DataFrame:
        """The feature rows of the month that ends on a day, made of what is known then."""
        (scratch / RAW).parent.mkdir(parents=True)
        (scratch / RAW).symlink_to(self.known)
        featurize.run(until(params, end, end.day), scratch)
        return dataset.read(scratch / FEATURES / dataset.HOLDOUT)


def until(params: Params, end: dt.date, held_out: int | None = None) -> Params:
    """The parameters with another last day, and with so many days set apart before it."""
    data = params.data.model_copy(update={"until": end})
    days = held_out or params.split.holdout_days
    split = params.split.model_copy(update={"holdout_days": days})
    return params.model_copy(update={"data": data, "split": split})
