"""Drift of a window's features and predictions against the bundle's reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mlops.contract.bundle import REFERENCE, Array, Card, Input
from mlops.evaluation.stability import SIGMAS, index_beyond_chance
from mlops.monitoring.bins import Bins, categorical, numeric
from mlops.monitoring.places import literal
from mlops.monitoring.window import Bin, Column

if TYPE_CHECKING:
    import duckdb
    import pandas as pd

# Rows of a window that drift is measured on, sampled evenly; missing values are counted on all.
SAMPLE = 20_000
# Fewest values of a window, and of the reference, to measure drift by.
VALUES, REFERENCE_VALUES = 200, 50


@dataclass(frozen=True)
class Reference:
    """The bundle's sample of its training rows.

    The columns i0, i1, … (inputs) and o0, o1, … (outputs) have their bins, and the counts of the
    values in them.
    """

    card: Card
    rows: int
    bins: Mapping[str, Bins]
    counts: Mapping[str, Array]


def reference(folder: Path, card: Card) -> Reference:
    """Read the reference rows of a bundle and cut them into bins."""
    import pandas as pd

    table = pd.read_parquet(folder / REFERENCE)
    columns: dict[str, pd.Series[Any]] = {}
    cut: dict[str, Bins] = {}
    for index, feature in enumerate(card.inputs):
        column = table[feature.name]
        if feature.type == "string":
            # The service logs a missing category as "".
            column = column.where(column.notna() & (column != ""))
        columns[f"i{index}"] = column
        cut[f"i{index}"] = (categorical if feature.type == "string" else numeric)(column)
    names = _prediction_names(card)
    columns |= {f"o{index}": table[name] for index, name in enumerate(names)}
    cut |= {f"o{index}": numeric(table[name]) for index, name in enumerate(names)}
    counts = {name: cut[name].counts(column) for name, column in columns.items()}
    return Reference(card, len(table), cut, counts)


def measure(
    database: duckdb.DuckDBPyConnection, where: str, rows: int, reference: Reference
) -> tuple[tuple[Column, ...], tuple[Column, ...]]:
    """Compare every feature and every output of the `rows` answers that meet an SQL condition."""
    card = reference.card
    sample = _sample(database, where, reference)
    present = _query(database, ", ".join(f"count(i{i})" for i in range(len(card.inputs))), where)
    features = tuple(
        _with_counts(
            _compare(f"i{i}", feature.name, sample, reference),
            (1 - reference.counts[f"i{i}"].sum() / reference.rows, reference.rows),
            (1 - present[i] / rows, rows),
            _unseen(database, where, i, feature) / rows,
        )
        for i, feature in enumerate(card.inputs)
    )
    scores = tuple(
        _compare(f"o{i}", name, sample, reference) for i, name in enumerate(card.outputs)
    )
    return features, scores


def _prediction_names(card: Card) -> Sequence[str]:
    """The reference's columns of predictions, in the order of the card's outputs."""
    if card.task != "multiclass":
        return ("prediction",)
    return [f"prediction_{i}" for i in range(len(card.outputs))]


def _sample(database: duckdb.DuckDBPyConnection, where: str, reference: Reference) -> pd.DataFrame:
    """Sample the same rows at every run, whatever the order in which they were read."""
    return database.execute(
        f"SELECT {', '.join(reference.bins)} FROM answers WHERE {where}"
        f" ORDER BY hash(time, request, row), time, request, row LIMIT {SAMPLE}"
    ).df()


def _query(database: duckdb.DuckDBPyConnection, counts: str, where: str) -> Sequence[int]:
    row = database.execute(f"SELECT {counts} FROM answers WHERE {where}").fetchone()
    assert row is not None
    return row


def _unseen(database: duckdb.DuckDBPyConnection, where: str, index: int, feature: Input) -> int:
    """Count the rows with a category that training never saw."""
    if feature.type != "string":
        return 0
    categories = ", ".join(literal(category) for category in feature.categories) or "''"
    unseen = f"i{index} NOT IN (SELECT unnest([{categories}]))"
    return _query(database, "count(*)", f"{where} AND {unseen}")[0]


def _compare(column: str, name: str, sample: pd.DataFrame, reference: Reference) -> Column:
    bins, before = reference.bins[column], reference.counts[column]
    now = bins.counts(sample[column])
    values, reference_values = int(now.sum()), int(before.sum())
    enough = values >= VALUES and reference_values >= REFERENCE_VALUES
    return Column(
        name,
        index_beyond_chance(before, now) if enough else None,
        bins=tuple(
            Bin(label, float(old) / max(reference_values, 1), float(new) / max(values, 1))
            for label, old, new in zip(bins.labels, before, now, strict=True)
        ),
    )


def _with_counts(
    column: Column, before: tuple[float, int], now: tuple[float, int], unseen: float
) -> Column:
    """Add shares of missing (each with its rows) and unseen values, less what chance may add."""
    noise = np.sqrt(_variance(*before) + _variance(*now))
    return replace(
        column,
        missing=float(now[0]),
        missing_before=float(before[0]),
        missing_rise=float(now[0] - before[0] - SIGMAS * noise),
        unseen=float(unseen - SIGMAS * np.sqrt(_variance(unseen, now[1]))),
    )


def _variance(share: float, rows: int) -> float:
    return share * (1 - share) / rows
