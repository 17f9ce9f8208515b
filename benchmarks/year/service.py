"""A real service that is asked about a month's flights, a request for each day."""

from __future__ import annotations

import datetime as dt
import http.client
import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pandas as pd

from benchmarks.figure import Failed
from mlops.contract import dataset
from mlops.contract.project import Features

HOST = "127.0.0.1"
START_SECONDS = 60.0
# No file of samples is full before the month ends.
SIZE = 2**31
NOON = dt.time(12)


@dataclass(frozen=True)
class Scored:
    """What a service answered, row by row, and the files in which it kept what it was asked."""

    probability: np.ndarray[Any, np.dtype[Any]]
    samples: Path


def score(bundle: Path, rows: pd.DataFrame, spec: Features, samples: Path) -> Scored:
    """Serve a bundle, ask it about the rows (in order of their days), and end it.

    A request's id is the day that it asks about. Raises Failed when the service does not come up
    or refuses a request.
    """
    inputs = dataset.inputs(rows, spec)
    records = inputs.astype(object).where(inputs.notna(), None)
    days = rows[spec.day].dt.date
    with serving(bundle, samples) as port:
        answers = [
            _ask(port, day, records[days == day].to_dict("records")) for day in days.unique()
        ]
    return Scored(np.concatenate(answers), samples)


@contextmanager
def serving(bundle: Path, samples: Path) -> Iterator[int]:
    """The port of a service that runs as long as the block; what it kept is whole afterwards."""
    port = _free_port()
    process = subprocess.Popen(
        [
            sys.executable, "-c", "from mlops.cli import main; main()", "serve", str(bundle),
            "--port", str(port), "--samples", str(samples), "--sample-bytes", str(SIZE),
        ],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        _wait(process, port)
        yield port
    finally:
        process.terminate()
        process.wait()


def keep(scored: Scored, log: Path) -> None:
    """Add a service's samples to a log, at noon of the days that they speak of.

    A year passes here in minutes; this is all that knows of it.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as kept:
        for file in sorted(scored.samples.glob("predictions-*")):
            for line in file.read_bytes().splitlines():
                sample = msgspec.json.decode(line)
                day = dt.datetime.combine(dt.date.fromisoformat(sample["request"]), NOON, dt.UTC)
                kept.write(msgspec.json.encode(sample | {"time": day.timestamp()}) + b"\n")


def labels(rows: pd.DataFrame, spec: Features) -> pd.DataFrame:
    """What came true of each row, by the request and its place there."""
    request = rows[spec.day].dt.strftime("%Y-%m-%d")
    return pd.DataFrame(
        {
            "request": request,
            "row": rows.groupby(request).cumcount(),
            spec.target: rows[spec.target],
        }
    )


def _ask(port: int, day: dt.date, records: list[dict[Any, Any]]) -> np.ndarray[Any, np.dtype[Any]]:
    connection = http.client.HTTPConnection(HOST, port, timeout=START_SECONDS)
    headers = {"content-type": "application/json", "x-request-id": day.isoformat()}
    connection.request("POST", "/predict", json.dumps(records), headers)
    answer = connection.getresponse()
    content = json.loads(answer.read())
    connection.close()
    if answer.status != 200:
        raise Failed(f"{day}: {answer.status}: {content.get('error')}")
    return np.array([row["probability"] for row in content["predictions"]])


def _wait(process: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        try:
            connection = http.client.HTTPConnection(HOST, port, timeout=1)
            connection.request("GET", "/ping")
            if connection.getresponse().status == 200:
                return
        except OSError:
            time.sleep(0.05)
    raise Failed(f"{' '.join(map(str, process.args))}: does not answer")  # type: ignore[arg-type]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])
