"""Intervals hold the true value about as often as they say; what is too few for one is said."""

import numpy as np
import pytest

from mlops.evaluation import bounds, metrics


def support(task, y, prediction, clusters=None):
    y, prediction = np.array(y, float), np.array(prediction, float)
    return bounds.support(task, y, [(prediction, 0.5)], clusters)


def test_a_rare_class_is_too_few_for_every_metric():
    few = support("binary", [1] * 9 + [0] * 91, [0.9] * 50 + [0.1] * 50)
    assert few.few == "rows outside the most frequent class: 9, at least 10 needed"
    assert {few.count(name) for name in ("roc_auc", "log_loss", "precision", "own.metric")} == {0}


def test_enough_of_a_class_is_not_enough_for_precision_and_f1_of_few_alarms():
    enough = support("binary", [1] * 12 + [0] * 88, [0.9] * 9 + [0.1] * 91)
    assert enough.few == ""
    assert (enough.count("roc_auc"), enough.count("log_loss")) == (13, 100)
    assert {enough.count(name) for name in ("precision", "f1", "average_precision")} == {0}


def test_a_rare_class_beside_frequent_ones_leaves_the_mean_losses_alone():
    y, prediction = [0] * 50 + [1] * 47 + [2] * 3, np.eye(3)[[0, 1, 2, 0] * 25]
    three = support("multiclass", y, prediction)
    assert three.few == ""
    assert (three.count("roc_auc"), three.count("log_loss")) == (0, 100)


@pytest.mark.parametrize(
    ("days", "few"), [(9, "clusters of rows: 9, at least 10 needed"), (10, "")]
)
def test_many_rows_of_few_days_are_few(days, few):
    assert support("regression", np.arange(900), np.zeros(900), np.arange(900) % days).few == few


def test_few_draws_make_a_wider_interval_that_holds_as_often():
    generator, held = np.random.default_rng(0), []
    for value in generator.normal(size=1500):
        low, high = bounds.interval("bias", value, value + generator.normal(size=8), 10_000)
        held.append(low <= 0 <= high)
    assert 0.93 < np.mean(held) < 0.97


def test_intervals_hold_where_rows_of_a_day_are_alike():
    held = []
    for seed in range(250):
        generator, days = np.random.default_rng(seed), np.arange(300) % 15
        error = generator.normal(size=15)[days] + generator.normal(size=300)
        bounded = metrics.intervals(
            "regression", -error, np.zeros(300), None, clusters=days, draws=30, seed=seed
        )
        held.append([bounded["bias"].low <= 0 <= bounded["bias"].high,
                     bounded["rmse"].low <= np.sqrt(2) <= bounded["rmse"].high])  # fmt: skip
    assert (np.mean(held, axis=0) > 0.91).all()
