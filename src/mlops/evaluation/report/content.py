"""Content of the report: the card of a bundle and the results of its evaluation."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from mlops.contract.bundle import Card
from mlops.evaluation.metrics import Interval


@dataclass(frozen=True, kw_only=True)
class Content:
    """The evaluation of a bundle, by its card and digest, on the `rows` of the days given, if any.

    label_rate: of a binary holdout, 0..1; few: what is too few for intervals, "" when nothing is;
    sample: on how many of the training rows the search was made, None when on all;
    metrics: as `metrics.intervals`; baselines: a name to
    `metrics.score`; dropped: a reason to a number of rows. tables: as `curves.curves`, and slices,
    as `metrics.by_slice`, importance, as `metrics.permutation_importance`, and search, with the
    columns trial, family, score, best_so_far; a table that is absent or empty has no section.
    """

    card: Card
    digest: str
    days: tuple[str, str] | None
    rows: int
    label_rate: float | None
    metrics: dict[str, Interval]
    baselines: dict[str, dict[str, float]]
    tables: dict[str, pd.DataFrame]
    dropped: dict[str, int]
    few: str = ""
    sample: tuple[int, int] | None = None
