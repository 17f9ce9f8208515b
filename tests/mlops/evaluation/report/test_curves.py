"""Curves are small, and keep the rows, the ends and the area of what they draw."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn import metrics as sk

from mlops.contract.project import Task
from mlops.evaluation.report import curves
from mlops.evaluation.weighted import Array

THRESHOLD = 0.4


def binary(rows: int = 2000, seed: int = 0, decimals: int = 2) -> tuple[Array, Array]:
    """Labels drawn from the probabilities given; rounding makes ties."""
    generator = np.random.default_rng(seed)
    probability = generator.beta(2, 4, rows).round(decimals)
    return (generator.random(rows) < probability).astype(int), probability


def multiclass(rows: int = 1500, seed: int = 0) -> tuple[Array, Array]:
    generator = np.random.default_rng(seed)
    probability = generator.dirichlet([1, 2, 3], rows)
    y = (probability.cumsum(axis=1) < generator.random((rows, 1))).sum(axis=1)
    return y, probability


def regression(rows: int = 1500, seed: int = 0) -> tuple[Array, Array]:
    generator = np.random.default_rng(seed)
    prediction = 1000 + generator.normal(0, 5, rows)
    return prediction + generator.gumbel(0, 3, rows), prediction


CASES: dict[Task, tuple[Array, Array]] = {
    "binary": binary(),
    "multiclass": multiclass(),
    "regression": regression(),
}


@pytest.mark.parametrize("task", CASES)
def test_curves_are_small_and_finite(task: Task) -> None:
    y, prediction = CASES[task]
    for name, table in curves.curves(task, y, prediction, THRESHOLD).items():
        assert 0 < len(table) <= curves.POINTS, name
        assert np.isfinite(table.to_numpy(dtype=float)).all(), name


def test_thinned_curves_keep_their_ends_and_their_area() -> None:
    y, probability = binary(20_000, decimals=17)
    roc = curves.roc_curve(y, probability)
    ends = roc[["fpr", "tpr"]].iloc[[0, -1]].to_numpy().tolist()
    assert ends == [[0, 0], [1, 1]]
    area = sk.roc_auc_score(y, probability)
    assert sk.auc(roc["fpr"], roc["tpr"]) == pytest.approx(area, abs=1e-3)
    recall = curves.precision_recall_curve(y, probability)["recall"]
    assert recall.is_monotonic_increasing
    assert recall.iloc[-1] == 1


def test_calibration_bins_hold_every_row_and_bracket_the_observed_rate() -> None:
    y, probability = binary()
    table = curves.calibration_curve(y, probability)
    assert table["rows"].sum() == len(y)
    assert table["observed"].between(table["low"], table["high"]).all()
    assert table["predicted"].is_monotonic_increasing


def test_counts_in_histograms_and_confusion_add_up_to_the_rows() -> None:
    y, probability = binary()
    tables: dict[str, Any] = curves.curves("binary", y, probability, THRESHOLD)
    assert tables["score_histogram"][["negative", "positive"]].to_numpy().sum() == len(y)
    cells = tables["confusion_matrix"]["rows"].to_numpy().reshape(2, 2)
    assert (cells == sk.confusion_matrix(y, probability >= THRESHOLD)).all()
    residuals = curves.residual_histogram(*regression())
    assert residuals["rows"].sum() == 1500
