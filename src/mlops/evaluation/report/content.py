"""Content of the report: the facts of a model and the tables of its evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pandas as pd

from mlops.contract.project import Task
from mlops.evaluation.metrics import Interval


@dataclass(frozen=True, kw_only=True)
class ModelFacts:
    """The evaluated model. Dates are first and last day as text; rate and threshold are 0..1."""

    name: str
    family: str
    hyperparameters: Mapping[str, object]
    bundle_digest: str
    train_dates: tuple[str, str]
    holdout_dates: tuple[str, str]
    train_rows: int
    holdout_rows: int
    label_rate: float | None = None
    threshold: float | None = None


@dataclass(frozen=True, kw_only=True)
class ReportContent:
    """All that the page shows. A part that is empty or None has no section.

    metrics: as `metrics.intervals`; baselines: a name to `metrics.score`; curves: as
    `curves.curves`; slices: as `metrics.by_slice`; importance: as
    `metrics.permutation_importance`; search: columns trial, family, score, best_so_far; dropped: a
    reason to a number of rows; classes: names of labels 0..k-1.
    """

    title: str
    task: Task
    model: ModelFacts
    metrics: Mapping[str, Interval]
    baselines: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    curves: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    slices: pd.DataFrame | None = None
    importance: pd.DataFrame | None = None
    search: pd.DataFrame | None = None
    dropped: Mapping[str, int] = field(default_factory=dict)
    classes: Sequence[str] = ()
