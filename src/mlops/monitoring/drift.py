"""Drift of a window's features and predictions against the bundle's reference."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops.contract.bundle import REFERENCE, Array, Card
from mlops.evaluation.stability import SIGMAS, index_beyond_chance
from mlops.monitoring import logs
from mlops.monitoring.assessment import Bin, Column
from mlops.monitoring.bins import Bins, categorical, numeric
from mlops.monitoring.files import literal

if TYPE_CHECKING:
    import duckdb
    import pandas as pd

# Fewest values of a window, and of the reference, to measure drift by.
VALUES, REFERENCE_VALUES = 200, 50


@dataclass(frozen=True)
class Reference:
    """The bundle's sample of training rows: bins and counts of its columns i0, … and o0, …."""

    card: Card
    rows: int
    bins: Mapping[str, Bins]
    counts: Mapping[str, Array]


def reference(folder: Path, card: Card) -> Reference:
    """Read the reference rows of a bundle and cut them into bins."""
    import pandas as pd

    table = pd.read_parquet(folder / REFERENCE)
    cut: dict[str, Bins] = {}
    counts: dict[str, Array] = {}
    names = {f"i{i}": feature.name for i, feature in enumerate(card.inputs)}
    suffix = "_{}" if card.task == "multiclass" else ""
    names |= {f"o{i}": f"prediction{suffix.format(i)}" for i in range(len(card.outputs))}
    strings = {feature.name for feature in card.inputs if feature.type == "string"}
    for key, name in names.items():
        column = table[name]
        if name in strings:
            # The service logs a missing category as "".
            column = column.where(column.notna() & (column != ""))
        cut[key] = (categorical if name in strings else numeric)(column)
        counts[key] = cut[key].counts(column)
    return Reference(card, len(table), cut, counts)


def measure(
    database: duckdb.DuckDBPyConnection, where: str, rows: int, reference: Reference
) -> dict[str, Any]:
    """Compare the `features` and `scores` of the `rows` answers that meet an SQL condition.

    Drift is measured on a sample; missing values and unseen categories are counted on all rows.
    """
    card, sample = reference.card, logs.sample(database, reference.bins, "answers", where)
    counts = []
    for i, feature in enumerate(card.inputs):
        # Every number counts as seen, and no string where training saw none.
        none = "''" if feature.type == "string" else f"i{i}"
        seen = ", ".join(map(literal, feature.categories)) or none
        counts.append(f"count(i{i}), count(*) FILTER (i{i} NOT IN ({seen}))")
    (counted,) = database.execute(
        f"SELECT {', '.join(counts)} FROM answers WHERE {where}"
    ).fetchall()
    features = []
    for i, feature in enumerate(card.inputs):
        before = float(1 - reference.counts[f"i{i}"].sum() / reference.rows)
        missing, unseen = 1 - counted[2 * i] / rows, counted[2 * i + 1] / rows
        noise = math.sqrt(_variance(before, reference.rows) + _variance(missing, rows))
        shares: dict[str, Any] = {
            "missing": missing,
            "missing_before": before,
            "missing_rise": missing - before - SIGMAS * noise,
            "unseen": unseen - SIGMAS * math.sqrt(_variance(unseen, rows)),
        }
        features.append(replace(_compare(f"i{i}", feature.name, sample, reference), **shares))
    scores = (_compare(f"o{i}", name, sample, reference) for i, name in enumerate(card.outputs))
    return {"features": tuple(features), "scores": tuple(scores)}


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


def _variance(share: float, rows: int) -> float:
    return share * (1 - share) / rows
