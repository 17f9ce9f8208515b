"""The test that a deployed bundle must pass: its reference rows score there as they did here."""

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
# Between what the bundle said of its reference rows where it was made, and says there.
TOLERANCE = 1e-5


def passes(folder: Path, digest: str, place: str, score: Callable[[Sequence[Row]], Any]) -> None:
    """Send some reference rows to `score`; it gives back what MLflow's protocol calls predictions.

    Raises UserError, which names the `place`, unless they are what the bundle said of these rows.
    """
    rows, expected = reference(folder)
    what = f"bundle {digest[:12]}: {place}: "
    answer = score(rows)
    try:
        found = _matrix(answer, bundle.read_card(folder).outputs)
        off = float(np.max(np.abs(found - expected)))
    except (KeyError, TypeError, ValueError):
        raise UserError(f"{what}answers {str(answer)[:80]!r}, expected predictions") from None
    require_close(off, what)


def require_close(off: float, what: str) -> None:
    """Raise UserError, which begins with `what`, when reference rows score so much otherwise."""
    if not off <= TOLERANCE:
        raise UserError(
            f"{what}its reference rows score {off:.2g} off what they did when it was made, "
            f"expected at most {TOLERANCE:g}"
        )


def timed(score: Callable[[], Any]) -> Answer:
    """One answer: the first output of each row, none where it failed, and how long it took."""
    start = time.monotonic()
    try:
        rows = score()["predictions"]
        first = [next(iter(row.values())) if isinstance(row, dict) else row for row in rows]
        scores = tuple(float(np.ravel(value)[0]) for value in first)
    except (UserError, KeyError, TypeError, ValueError):
        scores = ()
    return Answer(time.monotonic() - start, scores)


def reference(folder: Path) -> tuple[list[Row], Array]:
    """Rows as records, None where a value is missing, and their predictions (rows, outputs)."""
    import pandas as pd

    table = pd.read_parquet(folder / bundle.REFERENCE).head(ROWS)
    names = [str(name) for name in table if str(name).startswith("prediction")]
    inputs = [column.name for column in bundle.read_card(folder).inputs]
    frame = table[inputs].astype(object)
    rows = frame.where(frame.notna(), None).to_dict("records")
    records: list[Row] = [{str(name): value for name, value in row.items()} for row in rows]
    return records, table[names].to_numpy(dtype=np.float64)


def _matrix(answer: Any, outputs: tuple[str, ...]) -> Array:
    rows = [
        [row[name] for name in outputs] if isinstance(row, dict) else np.atleast_1d(row)
        for row in answer["predictions"]
    ]
    return np.asarray(rows, dtype=np.float64).reshape(len(rows), len(outputs))
