"""Metrics agree with scikit-learn, their intervals with a plain bootstrap, slices with sense."""

from __future__ import annotations

import math
import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from mlops.contract.project import Task
from mlops.evaluation import metrics, weighted
from mlops.evaluation.metrics import Array

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


def test_binary_metrics_agree_with_scikit_learn() -> None:
    y, probability = binary()
    alarm = probability >= THRESHOLD
    expected = {
        "roc_auc": sk.roc_auc_score(y, probability),
        "average_precision": sk.average_precision_score(y, probability),
        "log_loss": sk.log_loss(y, probability),
        "brier": sk.brier_score_loss(y, probability),
        "accuracy": sk.accuracy_score(y, alarm),
        "precision": sk.precision_score(y, alarm),
        "recall": sk.recall_score(y, alarm),
        "f1": sk.f1_score(y, alarm),
    }
    scores = metrics.score("binary", y, probability, THRESHOLD)
    assert set(scores) == {*expected, "calibration_error"}
    assert {name: scores[name] for name in expected} == pytest.approx(expected, rel=1e-12)


def test_multiclass_metrics_agree_with_scikit_learn() -> None:
    y, probability = multiclass()
    likely = probability.argmax(axis=1)
    precision, recall, f1, _ = sk.precision_recall_fscore_support(y, likely, average="macro")
    expected = {
        "roc_auc": sk.roc_auc_score(y, probability, multi_class="ovr"),
        "log_loss": sk.log_loss(y, probability),
        "brier": sk.brier_score_loss(y, probability),
        "accuracy": sk.accuracy_score(y, likely),
        "precision": precision,
        "recall": recall,
        "f1": f1,
    }
    scores = metrics.score("multiclass", y, probability, None)
    assert set(scores) == {*expected, "calibration_error"}
    assert {name: scores[name] for name in expected} == pytest.approx(expected, rel=1e-12)


def test_regression_metrics_agree_with_scikit_learn() -> None:
    y, prediction = regression()
    expected = {
        "mae": sk.mean_absolute_error(y, prediction),
        "rmse": sk.root_mean_squared_error(y, prediction),
        "r2": sk.r2_score(y, prediction),
        "bias": (prediction - y).mean(),
        "median_absolute_error": sk.median_absolute_error(y, prediction),
    }
    assert metrics.score("regression", y, prediction, None) == pytest.approx(expected, rel=1e-9)


def test_calibration_error_is_the_mean_gap_over_ten_equal_bins() -> None:
    y, probability = binary(decimals=17)
    order = np.argsort(probability)
    gaps = (y - probability)[order].reshape(10, -1).mean(axis=1)
    error = metrics.score("binary", y, probability, THRESHOLD)["calibration_error"]
    assert error == pytest.approx(np.abs(gaps).mean())


@pytest.mark.parametrize("task", CASES)
def test_the_interval_holds_the_point_metrics_exactly(task: Task) -> None:
    y, prediction = CASES[task]
    bounded = metrics.intervals(task, y, prediction, THRESHOLD, draws=20)
    points = {name: interval.value for name, interval in bounded.items()}
    assert points == metrics.score(task, y, prediction, THRESHOLD)
    assert all(interval.low <= interval.high for interval in bounded.values())


@pytest.mark.parametrize("task", CASES)
def test_intervals_depend_on_the_seed_alone(task: Task) -> None:
    y, prediction = CASES[task]
    first, again, other = (
        metrics.intervals(task, y, prediction, THRESHOLD, draws=20, seed=s) for s in (1, 1, 2)
    )
    assert first == again
    assert first != other


@pytest.mark.parametrize("task", CASES)
def test_intervals_equal_those_of_scoring_resampled_rows(task: Task) -> None:
    y, prediction = CASES[task]
    generator = np.random.default_rng(5)
    draws = [generator.integers(0, len(y), len(y)) for _ in range(200)]
    plain = pd.DataFrame([metrics.score(task, y[d], prediction[d], THRESHOLD) for d in draws])
    low, high = plain.quantile(0.025), plain.quantile(0.975)
    bounded = metrics.intervals(task, y, prediction, THRESHOLD, draws=200, seed=5)
    for name in set(bounded) - {"calibration_error"}:
        assert (bounded[name].low, bounded[name].high) == pytest.approx((low[name], high[name]))


def test_intervals_cover_the_truth_about_as_often_as_they_say() -> None:
    truth = metrics.score("binary", *binary(200_000, seed=99, decimals=17), THRESHOLD)
    names = ["roc_auc", "brier", "recall"]
    covered = []
    for seed in range(40):
        bounded = metrics.intervals("binary", *binary(500, seed=seed), THRESHOLD, draws=100)
        covered += [bounded[name].low <= truth[name] <= bounded[name].high for name in names]
    assert 0.88 <= np.mean(covered) <= 0.99


def test_the_calibration_interval_of_a_calibrated_model_is_not_biased_upwards() -> None:
    above = 0
    for seed in range(30):
        bounded = metrics.intervals("binary", *binary(1000, seed=seed), THRESHOLD, draws=50)
        interval = bounded["calibration_error"]
        above += interval.low > interval.value
    assert above == 0


@pytest.mark.parametrize("task", CASES)
@settings(max_examples=15)
@given(data=st.data())
def test_a_weight_is_the_row_repeated(task: Task, data: st.DataObject) -> None:
    y, prediction = (values[:40] for values in CASES[task])
    counts = np.array(data.draw(st.lists(st.integers(0, 3), min_size=40, max_size=40)))
    counts[0] = max(counts[0], 1)
    repeated = weighted.scorer(task, y, prediction, THRESHOLD)(counts.astype(float))
    rows = np.arange(40).repeat(counts)
    expected = metrics.score(task, y[rows], prediction[rows], THRESHOLD)
    assert repeated == pytest.approx(expected, rel=1e-9, abs=1e-9, nan_ok=True)


@settings(max_examples=25)
@given(
    grades=st.lists(st.integers(0, 50), min_size=4, max_size=60),
    power=st.sampled_from([0.5, 2.0, 3.0]),
    seed=st.integers(0, 100),
)
def test_ranking_metrics_ignore_a_monotone_change(
    grades: list[int], power: float, seed: int
) -> None:
    probability = np.array(grades) / 50
    y = np.random.default_rng(seed).integers(0, 2, len(grades))
    plain = metrics.score("binary", y, probability, THRESHOLD)
    bent = metrics.score("binary", y, probability**power, THRESHOLD)
    for name in ("roc_auc", "average_precision"):
        assert bent[name] == pytest.approx(plain[name], nan_ok=True)


def test_paired_intervals_are_narrower_than_the_models_apart() -> None:
    y, probability = binary()
    noisy = np.clip(probability + np.random.default_rng(1).normal(0, 0.02, len(y)), 0, 1)
    sides = (probability, THRESHOLD), (noisy, THRESHOLD)
    paired = metrics.paired_intervals("binary", y, *sides)["roc_auc"]
    alone = metrics.intervals("binary", y, probability, THRESHOLD)["roc_auc"]
    assert paired.high - paired.low < 0.5 * (alone.high - alone.low)
    assert paired.low <= paired.value <= paired.high


def test_a_model_paired_with_itself_differs_by_nothing() -> None:
    y, probability = binary()
    side = probability, THRESHOLD
    for interval in metrics.paired_intervals("binary", y, side, side, draws=5).values():
        assert (interval.value, interval.low, interval.high) == (0, 0, 0)


def test_one_class_leaves_ranking_undefined_but_not_the_losses() -> None:
    scores = metrics.score("binary", np.zeros(3), np.array([0.1, 0.2, 0.3]), 0.5)
    undefined = {name for name, value in scores.items() if math.isnan(value)}
    assert undefined == {"roc_auc", "average_precision", "precision", "recall", "f1"}
    bounded = metrics.intervals("binary", np.zeros(3), np.array([0.1, 0.2, 0.3]), 0.5, draws=5)
    assert math.isnan(bounded["roc_auc"].low)


def test_slices_with_one_class_give_nan_not_an_error() -> None:
    y = np.array([0, 0, 1, 0, 1])
    columns = pd.DataFrame({"place": ["a", "a", "b", "b", None]})
    table = metrics.by_slice("binary", y, np.array([0.1, 0.2, 0.9, 0.3, 0.8]), columns, 0.5)
    assert table["value"].tolist() == ["a", "b", "(missing)"]
    assert table["rows"].tolist() == [2, 2, 1]
    assert table["label_rate"].tolist() == [0, 0.5, 1]
    assert table["roc_auc"].isna().tolist() == [True, False, True]
    assert table["brier"].notna().all()


def test_slices_equal_scoring_their_rows_and_keep_the_order_of_numbers() -> None:
    y, probability = binary()
    hours = np.random.default_rng(1).choice([2.0, 10.0, 21.0, np.nan], len(y))
    columns = pd.DataFrame({"hour": hours, "all": "x"})
    table = metrics.by_slice("binary", y, probability, columns, THRESHOLD)
    assert table["slice"].tolist() == ["all", "hour", "hour", "hour", "hour"]
    assert table["value"].tolist() == ["x", "2", "10", "21", "(missing)"]
    rows = hours == 10
    expected = metrics.score("binary", y[rows], probability[rows], THRESHOLD)
    measured = table[table["value"] == "10"].iloc[0]
    assert all(measured[name] == expected[name] for name in metrics.SLICE_METRICS["binary"])
    assert (table["low"] <= table["roc_auc"]).all()
    assert (table["roc_auc"] <= table["high"]).all()


@pytest.mark.parametrize("task", CASES)
def test_slices_serve_every_task_and_no_column_at_all(task: Task) -> None:
    y, prediction = CASES[task]
    columns = pd.DataFrame({"half": np.arange(len(y)) % 2})
    table = metrics.by_slice(task, y, prediction, columns, THRESHOLD, draws=5)
    assert {"slice", "value", "rows", *metrics.SLICE_METRICS[task], "low", "high"} <= set(table)
    empty = metrics.by_slice(task, y, prediction, columns[[]], THRESHOLD)
    assert empty.empty
    assert list(empty) == list(table)


@pytest.mark.parametrize("task", ["binary", "regression"])
def test_a_feature_that_matters_costs_and_one_that_does_not_costs_nothing(task: Task) -> None:
    y, prediction = CASES[task]
    noise = np.random.default_rng(2).normal(size=len(y))
    frame = pd.DataFrame({"noise": noise, "signal": prediction}, index=np.arange(len(y)) + 7)
    before = frame.copy()

    def predict(rows: pd.DataFrame) -> Array:
        return rows["signal"].to_numpy()

    table = metrics.permutation_importance(predict, frame, y, task, repeats=2, seed=0)
    assert table["feature"].tolist() == ["signal", "noise"]
    assert table["importance"][0] > 0.1
    assert table["importance"][1] == 0
    pd.testing.assert_frame_equal(frame, before)


@pytest.mark.parametrize(
    ("y", "prediction", "message"),
    [
        ([0, 1], [0.5], "shapes"),
        ([], [], "shapes"),
        ([0, 1], [0.5, np.nan], "missing or infinite"),
        ([0, 2], [0.5, 0.5], "expected 0..1"),
    ],
)
def test_wrong_input_is_refused_with_what_was_found(
    y: list[int], prediction: list[float], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        metrics.score("binary", np.array(y), np.array(prediction), 0.5)


def test_a_binary_task_needs_a_threshold() -> None:
    with pytest.raises(ValueError, match="threshold"):
        metrics.score("binary", *binary(), None)


def test_importing_the_metrics_brings_in_no_heavy_library() -> None:
    heavy = "{'pandas', 'sklearn', 'scipy', 'matplotlib'}"
    check = f"import sys, mlops.evaluation.metrics; sys.exit(str({heavy} & set(sys.modules) or ''))"
    path = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, env=path)
    assert done.stderr.strip() == ""
