"""Requests of one real row in each server's form, and the probability that each must answer."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.figure import Failed
from mlops.contract import bundle

ROWS, SEED = 512, 0
TOLERANCE = 1e-6
Row = dict[str, float | str | None]


@dataclass(frozen=True)
class Form:
    """A path, how a row becomes a body, and where an answer has the probability."""

    path: str
    body: Callable[[Row], Any]
    probability: Callable[[Any], float]


RECORD = Form("/predict", dict, lambda answer: float(answer["predictions"][0]["probability"]))
PLAIN = Form("/predict", dict, lambda answer: float(answer["probability"]))
MLFLOW = Form(
    "/invocations",
    lambda row: {"dataframe_split": {"columns": list(row), "data": [list(row.values())]}},
    lambda answer: float(answer["predictions"][0]["probability"]),
)


def inference(model: str) -> Form:
    """Version 2 of the Open Inference Protocol: a tensor for each column."""
    return Form(
        f"/v2/models/{model}/infer",
        lambda row: {"inputs": [_tensor(name, value) for name, value in row.items()]},
        lambda answer: float(answer["outputs"][0]["data"][0]),
    )


def _tensor(name: str, value: Any) -> Any:
    datatype = "BYTES" if isinstance(value, str) else "FP32"
    return {"name": name, "shape": [1], "datatype": datatype, "data": [value]}


class Requests:
    """One row in each request, rendered up to its id and from it on, and the expected scores."""

    def __init__(self, form: Form, rows: list[Row], expected: list[float]) -> None:
        self.form, self.expected = form, expected
        self.rendered = [_rendered(form, row) for row in rows]

    def check(self, place: int, body: bytes) -> None:
        """Raise Failed unless an answer has the bundle's own probability."""
        found, expected = self.form.probability(json.loads(body)), self.expected[place]
        if abs(found - expected) > TOLERANCE:
            raise Failed(f"{self.form.path}: found {found}, expected {expected}")


def read(folder: Path) -> tuple[list[Row], list[float]]:
    """Rows of a bundle's reference in random order as JSON has them, and their probabilities."""
    import pandas as pd

    scorer = bundle.Scorer(folder)
    names = [column.name for column in scorer.card.inputs]
    frame = pd.read_parquet(folder / bundle.REFERENCE, columns=names)
    frame = frame.sample(min(ROWS, len(frame)), random_state=SEED, ignore_index=True)
    filled = frame.astype(object).where(frame.notna(), None)
    rows = [dict(zip(names, values, strict=True)) for values in filled.to_numpy().tolist()]
    return rows, np.asarray(scorer.predict(frame)).tolist()


def _rendered(form: Form, row: Row) -> tuple[bytes, bytes]:
    body = json.dumps(form.body(row), separators=(",", ":")).encode()
    head = f"POST {form.path} HTTP/1.1\r\nhost: 127.0.0.1\r\nx-request-id: "
    rest = f"\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode(), rest.encode() + body
