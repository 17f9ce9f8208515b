"""What is too few for an interval is counted in clusters of rows, and said with the limit."""

import numpy as np
import pytest

from mlops.evaluation import bounds


def support(task, y, prediction, clusters=None):
    y, prediction = np.array(y, float), np.array(prediction, float)
    return bounds.support(task, y, [(prediction, 0.5)], clusters)


def test_a_rare_class_is_too_few_for_every_metric():
    few = support("binary", [1] * 9 + [0] * 91, [0.9] * 50 + [0.1] * 50)
    assert few.few == "rows outside the most frequent class: 9, at least 10 needed"
    assert {few.count(name) for name in ("roc_auc", "log_loss", "precision", "own.metric")} == {0}


def test_enough_of_a_class_is_not_enough_for_the_precision_of_few_alarms():
    enough = support("binary", [1] * 12 + [0] * 88, [0.9] * 9 + [0.1] * 91)
    assert enough.few == ""
    assert (enough.count("roc_auc"), enough.count("log_loss")) == (13, 100)
    assert (enough.count("precision"), enough.count("average_precision")) == (0, 0)


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
