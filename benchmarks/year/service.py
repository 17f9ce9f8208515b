"""A real service that scores a month's flights, a request for each day."""

from __future__ import annotations

import datetime as dt
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pandas as pd
import requests

from benchmarks.figure import Failed
from mlops.base import processes
from mlops.contract import dataset
from mlops.contract.project import Features

START_SECONDS = 60.0
# No file of samples is full before the month ends.
SIZE = 2**31
NOON = dt.time(12)


@dataclass(frozen=True)
class Scored:
    """A service's answers, row by row, and the folder of its samples."""

    probability: np.ndarray[Any, np.dtype[Any]]
    samples: Path


def score(bundle: Path, rows: pd.DataFrame, spec: Features, samples: Path) -> Scored:
    """Score the rows, in order of their days, with a service of a bundle; a day is a request's id.

    Raises Failed when the service does not start or refuses a request.
    """
    inputs = dataset.inputs(rows, spec)
    records = inputs.astype(object).where(inputs.notna(), None)
    days = rows[spec.day].dt.date
    with serving(bundle, samples) as url:
        answers = [
            _predict(url, day, records[days == day].to_dict("records")) for day in days.unique()
        ]
    return Scored(np.concatenate(answers), samples)


@contextmanager
def serving(bundle: Path, samples: Path) -> Iterator[str]:
    """The URL of a service that runs as long as the block; its samples are complete afterwards."""
    port = processes.free_port(0)
    process = subprocess.Popen(
        [
            sys.executable, "-c", "from mlops.cli import main; main()", "serve", str(bundle),
            "--port", str(port), "--samples", str(samples), "--sample-bytes", str(SIZE),
        ],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    url = f"http://{processes.HOST}:{port}"
    try:
        if not processes.wait(
            lambda: processes.answers(f"{url}/ping"), lambda: process.poll() is None
        ):
            raise Failed(f"serve {bundle}: does not answer")
        yield url
    finally:
        process.terminate()
        process.wait()


def append_samples(scored: Scored, log: Path) -> None:
    """Append a service's samples to a log, dated noon of the day that was requested.

    A year passes here in minutes; these times are the only ones that are changed.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as out:
        for file in sorted(scored.samples.glob("predictions-*")):
            for line in file.read_bytes().splitlines():
                sample = msgspec.json.decode(line)
                day = dt.datetime.combine(dt.date.fromisoformat(sample["request"]), NOON, dt.UTC)
                out.write(msgspec.json.encode(sample | {"time": day.timestamp()}) + b"\n")


def labels(rows: pd.DataFrame, spec: Features) -> pd.DataFrame:
    """The label of each row, by its request and its position there."""
    request = rows[spec.day].dt.strftime("%Y-%m-%d")
    row = rows.groupby(request).cumcount()
    return pd.DataFrame({"request": request, "row": row, spec.target: rows[spec.target]})


def _predict(
    url: str, day: dt.date, records: list[dict[Any, Any]]
) -> np.ndarray[Any, np.dtype[Any]]:
    headers = {"x-request-id": day.isoformat()}
    response = requests.post(f"{url}/predict", json=records, headers=headers, timeout=START_SECONDS)
    if not response.ok:
        raise Failed(f"{day}: {response.status_code}: {response.json().get('error')}")
    return np.array([row["probability"] for row in response.json()["predictions"]])
