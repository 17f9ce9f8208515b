"""The smoke test of a deployed bundle: its reference rows score there as where it was made."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mlops.base.errors import UserError
from mlops.contract import bundle
from mlops.contract.bundle import Array
from mlops.deploy.target import Answer, Row

ROWS = 20
# Between the reference's predictions and those of the place that runs the bundle.
TOLERANCE = 1e-5


def passes(folder: Path, digest: str, place: str, score: Callable[[Sequence[Row]], Any]) -> None:
    """Send some reference rows to `score`, which answers as MLflow's protocol: `predictions`.

    Raises UserError, which names the `place`, unless these are the reference's predictions.
    """
    rows, expected = reference(folder)
    what = f"bundle {digest[:12]}: {place}: "
    answer = score(rows[:ROWS])
    try:
        scores = _matrix(answer, bundle.read_card(folder).outputs)
        difference = float(np.max(np.abs(scores - expected[:ROWS])))
    except (KeyError, TypeError, ValueError):
        raise UserError(f"{what}answers {str(answer)[:80]!r}, expected predictions") from None
    if not difference <= TOLERANCE:
        raise UserError(
            f"{what}its reference rows score {difference:.2g} off what they did when it was made, "
            f"expected at most {TOLERANCE:g}"
        )


def timed(score: Callable[[], Any]) -> Answer:
    """Time one answer: the first output of each row, none where it failed."""
    start = time.monotonic()
    try:
        rows = score()["predictions"]
        first = [next(iter(row.values())) if isinstance(row, dict) else row for row in rows]
        scores = tuple(float(np.ravel(value)[0]) for value in first)
    except (UserError, KeyError, TypeError, ValueError):
        scores = ()
    return Answer(time.monotonic() - start, scores)


def reference(folder: Path) -> tuple[list[Row], Array]:
    """The reference rows, None where a value is missing, and their predictions (rows, outputs)."""
    import pandas as pd

    table = pd.read_parquet(folder / bundle.REFERENCE)
    predictions = [str(name) for name in table if str(name).startswith("prediction")]
    inputs = [column.name for column in bundle.read_card(folder).inputs]
    frame = table[inputs].astype(object)
    rows: list[Row] = frame.where(frame.notna(), None).to_dict("records")  # type: ignore[assignment]
    return rows, table[predictions].to_numpy(dtype=np.float64)


def _matrix(answer: Any, outputs: tuple[str, ...]) -> Array:
    rows = [
        [row[name] for name in outputs] if isinstance(row, dict) else np.atleast_1d(row)
        for row in answer["predictions"]
    ]
    return np.asarray(rows, dtype=np.float64).reshape(len(rows), len(outputs))
