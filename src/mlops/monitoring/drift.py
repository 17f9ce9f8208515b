"""Drift of a window's features and predictions against the bundle's reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mlops.contract.bundle import REFERENCE, Array, Card, Input
from mlops.evaluation.stability import SIGMAS, index_beyond_chance
from mlops.monitoring import bins
from mlops.monitoring.places import text
from mlops.monitoring.window import Bin, Column

if TYPE_CHECKING:
    import duckdb
    import pandas as pd

# Rows of a window that drift is measured on, drawn evenly; what is missing is counted on all.
SAMPLE = 20_000
# Fewest values of a window, and of the reference, to measure drift by.
VALUES, REFERENCE_VALUES = 200, 50


@dataclass(frozen=True)
class Reference:
    """What the bundle brought along to be compared with: codes of its bins, missing shares."""

    card: Card
    rows: int
    cuts: Mapping[str, bins.Cut]
    codes: Mapping[str, Array]


def reference(folder: Path, card: Card) -> Reference:
    """Read the bundle's own sample of what it was trained on, and cut it into bins."""
    import pandas as pd

    table = pd.read_parquet(folder / REFERENCE)
    columns: dict[str, pd.Series[Any]] = {f"i{i}": _column(table, put)
                                          for i, put in enumerate(card.inputs)}  # fmt: skip
    columns |= {f"o{i}": table[name] for i, name in enumerate(_predictions(card))}
    words = {f"i{i}" for i, put in enumerate(card.inputs) if put.type == "string"}
    cuts = {n: (bins.words if n in words else bins.numbers)(c) for n, c in columns.items()}
    codes = {name: cuts[name].codes(column) for name, column in columns.items()}
    return Reference(card, len(table), cuts, codes)


def measure(
    database: duckdb.DuckDBPyConnection, where: str, rows: int, known: Reference
) -> tuple[tuple[Column, ...], tuple[Column, ...]]:
    """Every feature, and every output, of the `rows` answers that fit a condition of SQL."""
    sample = _sample(database, where, known)
    present = _present(database, where, known.card)
    unseen = [_unseen(database, where, i, put) for i, put in enumerate(known.card.inputs)]
    features = tuple(
        _feature(f"i{i}", put.name, sample, known, (rows, present[i], unseen[i]))
        for i, put in enumerate(known.card.inputs)
    )
    scores = tuple(
        _compared(f"o{i}", name, sample, known) for i, name in enumerate(known.card.outputs)
    )
    return features, scores


def _column(table: pd.DataFrame, put: Input) -> pd.Series[Any]:
    column = table[put.name]
    return column.where(column.notna() & (column != "")) if put.type == "string" else column


def _predictions(card: Card) -> Sequence[str]:
    """The names of the predictions in the reference, in the order of the card's outputs."""
    if card.task != "multiclass":
        return ("prediction",)
    return [f"prediction_{i}" for i in range(len(card.outputs))]


def _sample(database: duckdb.DuckDBPyConnection, where: str, known: Reference) -> pd.DataFrame:
    """The same rows at every run, whatever the order in which they were read."""
    columns = ", ".join(known.cuts)
    return database.execute(
        f"SELECT {columns} FROM answers WHERE {where}"
        f" ORDER BY hash(time, request, row), time, request, row LIMIT {SAMPLE}"
    ).df()


def _present(database: duckdb.DuckDBPyConnection, where: str, card: Card) -> Sequence[int]:
    counts = ", ".join(f"count(i{i})" for i in range(len(card.inputs)))
    found = database.execute(f"SELECT {counts} FROM answers WHERE {where}").fetchone()
    assert found is not None
    return found


def _unseen(database: duckdb.DuckDBPyConnection, where: str, index: int, put: Input) -> int:
    if put.type != "string":
        return 0
    known = ", ".join(text(word) for word in put.categories) or "''"
    found = database.execute(
        f"SELECT count(*) FROM answers WHERE {where} AND i{index} NOT IN (SELECT unnest([{known}]))"
    ).fetchone()
    assert found is not None
    return int(found[0])


def _feature(
    column: str, name: str, sample: pd.DataFrame, known: Reference, counts: tuple[int, int, int]
) -> Column:
    rows, present, unseen = counts
    compared = _compared(column, name, sample, known)
    before = 1 - len(known.codes[column]) / known.rows
    now = 1 - present / rows
    noise = np.sqrt(_variance(before, known.rows) + _variance(now, rows))
    share = unseen / rows
    return Column(
        name, compared.drift, now, before, float(now - before - SIGMAS * noise),
        float(share - SIGMAS * np.sqrt(_variance(share, rows))), compared.bins,
    )  # fmt: skip


def _compared(column: str, name: str, sample: pd.DataFrame, known: Reference) -> Column:
    cut, before = known.cuts[column], known.codes[column]
    now = cut.codes(sample[column])
    counts = [np.bincount(codes, minlength=len(cut.labels)) for codes in (before, now)]
    shares = zip(cut.labels, cut.shares(before), cut.shares(now), strict=True)
    drawn = tuple(Bin(label, float(old), float(new)) for label, old, new in shares)
    enough = len(now) >= VALUES and len(before) >= REFERENCE_VALUES
    return Column(name, index_beyond_chance(*counts) if enough else None, bins=drawn)


def _variance(share: float, rows: int) -> float:
    return share * (1 - share) / rows
