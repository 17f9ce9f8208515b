"""The year's flights as they arrive, month by month, and the answers to them by key."""

from __future__ import annotations

import datetime as dt
import json
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from benchmarks.figure import Failed
from mlops.contract import dataset
from mlops.contract.bundle import Array
from mlops.contract.paths import FEATURES, RAW
from mlops.contract.project import Features
from mlops.data import featurize, ingest
from mlops.data.params import Params
from mlops.deploy import predict
from tests.served import served

# When a day is asked for, in parts.
HOURS = (6, 12, 18)
STORE = "embedded"


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
        for stage in (ingest, featurize):
            stage.run(until(params, end, end.day), scratch)
        return dataset.read(scratch / FEATURES / dataset.HOLDOUT)


def until(params: Params, end: dt.date, holdout_days: int | None = None) -> Params:
    """The parameters with another last day, and another length of the holdout."""
    data = params.data.model_copy(update={"until": end})
    days = holdout_days or params.split.holdout_days
    split = params.split.model_copy(update={"holdout_days": days})
    return params.model_copy(update={"data": data, "split": split})


def publish(rows: pd.DataFrame, spec: Features, location: str) -> None:
    """Publish the rows' features by key.

    What each day's are as of that day is what the feature table has, as `featurize` proves.
    """
    days = sorted(rows[spec.day].dt.date.unique())
    table = pa.Table.from_pandas(rows, preserve_index=False)
    predict.publish(predict.Rows(spec, days, table, time.time()), STORE, location)


def ask(
    bundle: Path, rows: pd.DataFrame, spec: Features, location: str, folder: Path
) -> tuple[Array, list[str]]:
    """Ask a service for the rows' keys over HTTP: the probability of each row, in order of the
    days, and the lines that the service logs.

    A day is a request at each of HOURS, by the simulation's clock.
    """
    (samples := folder / "samples").mkdir(parents=True)
    options = ("--store", STORE, "--features", location, "--samples", str(samples))
    probabilities: list[float] = []
    with served(bundle, folder, *options) as service:
        for day, keys in rows.groupby(rows[spec.day].dt.date)[spec.key]:
            parts = np.array_split(list(keys), min(len(HOURS), len(keys)))
            for hour, part in zip(HOURS, parts, strict=False):
                moment = f"{day}T{hour:02}"
                reply = service.post("/predict", {"keys": list(part)}, **{"x-request-id": moment})
                if reply.status != 200:
                    raise Failed(f"{moment}: {reply.error}")
                probabilities += [one["probability"] for one in reply.json["predictions"]]
        service.stop()
    lines = [json.loads(line) for file in samples.iterdir() for line in file.open()]
    for line in lines:
        asked = dt.datetime.fromisoformat(line["request"]).replace(tzinfo=dt.UTC)
        line["time"] = asked.timestamp()
    return np.array(probabilities), [json.dumps(line) for line in lines]
