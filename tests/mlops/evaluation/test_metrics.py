"""Metrics agree with scikit-learn, their intervals with a plain bootstrap of many rows."""

from __future__ import annotations

import math
import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as sk

from mlops.base.errors import UserError
from mlops.evaluation import metrics
from mlops.evaluation.own_metrics import OwnMetric
from mlops.evaluation.weighted import scorer
from tests.mlops.evaluation.cases import CASES, THRESHOLD, binary

every_task = pytest.mark.parametrize("task", CASES)


def expected_of(task, y, prediction):
    if task == "regression":
        return {
            "mae": sk.mean_absolute_error(y, prediction),
            "rmse": sk.root_mean_squared_error(y, prediction),
            "r2": sk.r2_score(y, prediction),
            "bias": (prediction - y).mean(),
            "median_absolute_error": sk.median_absolute_error(y, prediction),
        }
    binary = task == "binary"
    labels = prediction >= THRESHOLD if binary else prediction.argmax(axis=1)
    average = "binary" if binary else "macro"
    precision, recall, f1, _ = sk.precision_recall_fscore_support(y, labels, average=average)
    return {
        "roc_auc": sk.roc_auc_score(y, prediction, multi_class="ovr"),
        "log_loss": sk.log_loss(y, prediction),
        "brier": sk.brier_score_loss(y, prediction),
        "accuracy": sk.accuracy_score(y, labels),
        "precision": precision,
        "recall": recall,
        "f1": f1,
        **({"average_precision": sk.average_precision_score(y, prediction)} if binary else {}),
    }


@every_task
def test_metrics_agree_with_scikit_learn(task):
    scores = metrics.score(task, *CASES[task], THRESHOLD)
    assert task == "regression" or scores.pop("calibration_error") > 0
    assert scores == pytest.approx(expected_of(task, *CASES[task]), rel=1e-9)


def test_calibration_error_is_the_mean_gap_over_ten_equal_bins():
    y, probability = binary(decimals=17)
    order = np.argsort(probability)
    gaps = (y - probability)[order].reshape(10, -1).mean(axis=1)
    error = metrics.score("binary", y, probability, THRESHOLD)["calibration_error"]
    assert error == pytest.approx(np.abs(gaps).mean())


@every_task
def test_intervals_of_many_rows_are_those_of_scoring_rows_drawn_at_random(task):
    y, prediction = CASES[task]
    generator = np.random.default_rng(5)
    draws = [generator.integers(0, len(y), len(y)) for _ in range(200)]
    plain = pd.DataFrame([metrics.score(task, y[d], prediction[d], THRESHOLD) for d in draws])
    bounded = metrics.intervals(task, y, prediction, THRESHOLD, draws=200, seed=5)
    points = {name: interval.value for name, interval in bounded.items()}
    assert points == metrics.score(task, y, prediction, THRESHOLD)
    for name in set(bounded) - {"calibration_error"}:
        low, high = plain[name].quantile([0.025, 0.975])
        assert abs(bounded[name].low - low) < 0.25 * (high - low), name
        assert abs(bounded[name].high - high) < 0.25 * (high - low), name
    assert bounded == metrics.intervals(task, y, prediction, THRESHOLD, draws=200, seed=5)
    assert bounded != metrics.intervals(task, y, prediction, THRESHOLD, draws=200, seed=6)


@pytest.mark.parametrize("positives", [1, 9])
def test_few_positives_in_many_rows_have_values_but_no_intervals(positives):
    y, probability = binary(8000)
    y = np.where(np.arange(8000) < positives, 1, 0)
    bounded = metrics.intervals("binary", y, probability, THRESHOLD)
    assert 0 < bounded["roc_auc"].value < 1
    assert all(math.isnan(interval.low + interval.high) for interval in bounded.values())
    side = (probability, THRESHOLD)
    paired = metrics.paired_intervals("binary", y, side, side)
    assert all(math.isnan(interval.low + interval.high) for interval in paired.values())


@pytest.mark.parametrize("task", ["binary", "multiclass"])
def test_rows_of_a_cluster_count_once(task):
    y, prediction = CASES[task]
    y, prediction, clusters = y[:300], prediction[:300], np.arange(300).repeat(10)
    alone = metrics.intervals(task, y, prediction, THRESHOLD)
    many = y.repeat(10), prediction.repeat(10, axis=0), THRESHOLD
    for name, interval in metrics.intervals(task, *many, clusters=clusters).items():
        if not math.isnan(alone[name].low):
            expected = pytest.approx((alone[name].low, alone[name].high))
            assert (interval.low, interval.high) == expected, name
    few = metrics.intervals(task, *many, clusters=np.arange(3000) % 9)
    assert all(math.isnan(interval.low) for interval in few.values())


def test_a_share_without_an_error_is_not_certain():
    y = (np.arange(30) % 2).astype(float)
    bounded = metrics.intervals("binary", y, 0.1 + 0.8 * y, 0.5)
    assert (bounded["accuracy"].value, bounded["accuracy"].high) == (1, 1)
    assert 0.85 < bounded["accuracy"].low < 0.9


def test_a_metric_of_the_project_that_a_draw_leaves_undefined_has_no_interval():
    heavy = OwnMetric("a.metric", lambda y, p, t, w: math.nan if w[0] > 1.5 else w.mean(), True)
    bounded = metrics.intervals("binary", *binary(200), THRESHOLD, own=[heavy])
    assert bounded["a.metric"].value == 1
    assert math.isnan(bounded["a.metric"].low)


@pytest.mark.parametrize(
    ("weights", "median"), [((1, 1, 1, 1), 2.5), ((1, 0, 1, 0), 2), ((0.5, 0.25, 0.2, 1.5), 4)]
)
def test_a_weighted_median_halves_the_weights(weights, median):
    y = np.array([1.0, 2, 3, 4])
    score = scorer("regression", np.zeros(4), y, None)
    assert score(np.array(weights, float))["median_absolute_error"] == median


def test_paired_intervals_are_narrower_than_the_models_apart_and_zero_for_equal_models():
    y, probability = binary()
    noisy = np.clip(probability + np.random.default_rng(1).normal(0, 0.02, len(y)), 0, 1)
    side, other = (probability, THRESHOLD), (noisy, THRESHOLD)
    paired = metrics.paired_intervals("binary", y, side, other)["roc_auc"]
    alone = metrics.intervals("binary", y, probability, THRESHOLD)["roc_auc"]
    assert paired.high - paired.low < 0.5 * (alone.high - alone.low)
    assert paired.low <= paired.value <= paired.high
    same = metrics.paired_intervals("binary", y, side, side, draws=5)
    calibration = same.pop("calibration_error")
    assert calibration.low < calibration.value == 0 < calibration.high
    for interval in same.values():
        assert (interval.value, interval.low, interval.high) == (0, 0, 0)


def test_one_class_leaves_ranking_undefined_but_not_the_losses():
    scores = metrics.score("binary", np.zeros(3), np.array([0.1, 0.2, 0.3]), 0.5)
    undefined = {name for name, value in scores.items() if math.isnan(value)}
    assert undefined == {"roc_auc", "average_precision", "precision", "recall", "f1"}
    bounded = metrics.intervals("binary", np.zeros(3), np.array([0.1, 0.2, 0.3]), 0.5, draws=5)
    assert math.isnan(bounded["roc_auc"].low)


@every_task
def test_slices_equal_scoring_their_rows_and_keep_the_order_of_numbers(task):
    y, prediction = CASES[task]
    hours = np.random.default_rng(1).choice([2.0, 10.0, 21.0, np.nan], len(y))
    columns = pd.DataFrame({"hour": hours, "all": "x"})
    table = metrics.by_slice(task, y, prediction, columns, THRESHOLD, draws=30)
    assert table["slice"].tolist() == ["all", "hour", "hour", "hour", "hour"]
    assert table["value"].tolist() == ["x", "2", "10", "21", "(missing)"]
    rows = hours == 10
    expected = metrics.score(task, y[rows], prediction[rows], THRESHOLD)
    measured = table[table["value"] == "10"].iloc[0]
    assert all(measured[name] == expected[name] for name in metrics.SLICE_METRICS[task])
    label = {"binary": "label_rate", "regression": "label_mean"}.get(task, "accuracy")
    assert task == "multiclass" or measured[label] == pytest.approx(y[rows].mean())
    assert table[metrics.main_metric(task)[0]].between(table["low"], table["high"]).all()
    empty = metrics.by_slice(task, y, prediction, columns[[]], THRESHOLD)
    assert (len(empty), list(empty)) == (0, list(table))


@pytest.mark.parametrize("task", ["binary", "regression"])
def test_only_a_feature_that_the_model_uses_has_importance(task):
    y, prediction = CASES[task]
    noise = np.random.default_rng(2).normal(size=len(y))
    frame = pd.DataFrame({"noise": noise, "signal": prediction}, index=np.arange(len(y)) + 7)
    before = frame.copy()
    table = metrics.permutation_importance(
        lambda rows: rows["signal"].to_numpy(), frame, y, task, rows=10_000, repeats=2, seed=0
    )
    assert table["feature"].tolist() == ["signal", "noise"]
    assert table["importance"][0] > 0.1
    assert table["importance"][1] == 0
    pd.testing.assert_frame_equal(frame, before)


@pytest.mark.parametrize(
    ("y", "prediction", "threshold", "message"),
    [
        ([0, 1], [0.5], 0.5, "shapes"),
        ([], [], 0.5, "shapes"),
        ([0, 1], [0.5, np.nan], 0.5, "missing or infinite"),
        ([0, 2], [0.5, 0.5], 0.5, "expected 0..1"),
        ([0, 1], [0.5, 0.5], None, "threshold"),
    ],
)
def test_invalid_input_is_refused_with_what_was_found(y, prediction, threshold, message):
    with pytest.raises(ValueError, match=message):
        metrics.score("binary", np.array(y), np.array(prediction), threshold)


def test_importing_the_metrics_brings_in_no_heavy_library():
    heavy = "{'pandas', 'sklearn', 'scipy', 'matplotlib'}"
    check = f"import sys, mlops.evaluation.metrics; sys.exit(str({heavy} & set(sys.modules) or ''))"
    path = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, env=path)
    assert done.stderr.strip() == ""


@pytest.mark.parametrize("task", CASES)
def test_a_metric_that_a_task_lacks_is_named_with_those_that_it_has(task):
    threshold = THRESHOLD if task == "binary" else None
    known = metrics.score(task, *CASES[task], threshold)
    for name in known:
        metrics.require_limit(name, 0.5, task, "params.yaml: gate.limits")
    lacking = "roc_auc" if task == "regression" else "rmse"
    with pytest.raises(UserError) as error:
        metrics.require_limit(lacking, 0.5, task, "params.yaml: gate.limits")
    assert str(error.value) == (
        f"params.yaml: gate.limits: found '{lacking}', which is no metric of this task; a {task} "
        f"has {', '.join(known)}"
    )


@pytest.mark.parametrize(
    ("task", "name", "limit", "expected"),
    [
        ("binary", "roc_auc", 70, "0 to 1"),
        ("binary", "brier", 1.5, "0 to 1"),
        ("multiclass", "brier", 2.5, "0 to 2"),
        ("multiclass", "log_loss", -0.1, "0 to inf"),
        ("regression", "r2", 1.1, "-inf to 1"),
        ("regression", "bias", -1, "0 to inf"),
    ],
)
def test_a_limit_that_the_metric_cannot_have_is_refused(task, name, limit, expected):
    with pytest.raises(UserError) as error:
        metrics.require_limit(name, limit, task, "params.yaml: gate.limits")
    line = f"params.yaml: gate.limits.{name}: found {limit}, expected {expected}"
    assert str(error.value) == line
