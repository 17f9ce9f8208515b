"""One row at a time through ONNX Runtime, 99th percentile over the rows in milliseconds."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from mlops.contract import bundle, dataset
from mlops.gitops.comparison import Case
from mlops.gitops.verdict import Rule, most_rule

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

ROWS, REPEATS = 200, 5


def judge(case: Case) -> Iterator[Rule]:
    """The time of the model alone, without the service around it."""
    session = case.candidate.scorer.session
    frame = dataset.inputs(case.candidate.holdout.head(ROWS), case.candidate.spec)
    columns = bundle.feeds(session, frame)
    rows = [
        {n: values[row : row + 1] for n, values in columns.items()} for row in range(len(frame))
    ]
    # The fastest of several runs: other work on the machine is not the model's.
    seconds = [min(_seconds(session, row) for _ in range(REPEATS)) for row in rows]
    milliseconds = float(np.percentile(seconds, 99)) * 1000
    yield most_rule("latency, one row, 99 %", milliseconds, case.params.gate.latency_ms, "ms")


def _seconds(session: InferenceSession, row: dict[str, bundle.Array]) -> float:
    start = time.perf_counter()
    session.run(None, row)
    return time.perf_counter() - start
