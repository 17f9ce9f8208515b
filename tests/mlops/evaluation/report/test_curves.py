"""Curves are small, and keep the rows, the ends and the area of what they show."""

import numpy as np
import pytest
from sklearn import metrics as sk

from mlops.evaluation.report import curves
from tests.mlops.evaluation.cases import CASES, THRESHOLD, binary, regression


@pytest.mark.parametrize("task", CASES)
def test_curves_are_small_and_finite(task):
    y, prediction = CASES[task]
    for name, table in curves.curves(task, y, prediction, THRESHOLD).items():
        assert 0 < len(table) <= curves.POINTS, name
        assert np.isfinite(table.to_numpy(dtype=float)).all(), name


def test_thinned_curves_keep_their_ends_and_their_area():
    y, probability = binary(20_000, decimals=17)
    roc = curves.roc_curve(y, probability)
    assert roc[["fpr", "tpr"]].iloc[[0, -1]].to_numpy().tolist() == [[0, 0], [1, 1]]
    area = sk.roc_auc_score(y, probability)
    assert sk.auc(roc["fpr"], roc["tpr"]) == pytest.approx(area, abs=1e-3)
    recall = curves.precision_recall_curve(y, probability)["recall"]
    assert recall.is_monotonic_increasing
    assert recall.iloc[-1] == 1


def test_the_bins_of_every_table_hold_all_rows():
    y, probability = binary()
    tables = curves.curves("binary", y, probability, THRESHOLD)
    calibration = tables["calibration_curve"]
    assert calibration["rows"].sum() == len(y)
    assert calibration["observed"].between(calibration["low"], calibration["high"]).all()
    assert calibration["predicted"].is_monotonic_increasing
    assert tables["score_histogram"][["negative", "positive"]].to_numpy().sum() == len(y)
    cells = tables["confusion_matrix"].set_index(["actual", "predicted"])["rows"]
    assert cells[1, 0] == ((y == 1) & (probability < THRESHOLD)).sum()
    assert cells.sum() == len(y)
    assert curves.residual_histogram(*regression())["rows"].sum() == 1500
