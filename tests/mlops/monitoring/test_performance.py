"""Labelled rows are measured for every task, and "surely worse" is never chance."""

import math

import numpy as np
import pytest

from mlops.evaluation import metrics
from mlops.evaluation.metrics import Interval
from mlops.monitoring import labels, logs, performance
from tests.mlops.monitoring.place import NOW
from tests.mlops.serving import bundles

NAMES = {
    "binary": ["roc_auc", "calibration_error"],
    "multiclass": ["log_loss", "calibration_error"],
    "regression": ["rmse", "|bias| / rmse"],
}


@pytest.fixture
def measured(pinned):
    """What is measured of a task's labels, which `change` makes of the outcomes of training."""

    def run(
        task, change=lambda outcome: outcome, count=600, without=(), what="qualities", hours=24
    ):
        place = pinned(task)
        rows = bundles.frame(4000, seed=3)
        ids = place.answer(rows[:count])
        outcome = bundles.outcome(rows, task)[:count]
        place.labels({"request": ids, "outcome": change(outcome)}, "labels.parquet")
        evidence = performance.evidence(place.folder)
        for name in without:
            del evidence[name]
        with logs.database() as database:
            logs.read(database, "service", place.asked("logs/production"))
            labels.read(database, "labels", place.root, place.card)
            where = f"time > {NOW.timestamp()} - 3600 * {hours}"
            found = performance.measure(database, where, place.card, evidence)
            return found[what] if what else found

    return run


@pytest.mark.parametrize("task", NAMES)
def test_outcomes_as_in_the_evidence_are_not_worse(measured, task):
    qualities = measured(task)
    assert [quality.metric for quality in qualities] == NAMES[task]
    assert [quality.kind for quality in qualities] == ["performance", "calibration"]
    assert all(quality.worse < 0.02 for quality in qualities)
    assert all(quality.low <= quality.value <= quality.high for quality in qualities)


@pytest.mark.parametrize("task", NAMES)
def test_outcomes_unrelated_to_the_predictions_are_surely_worse(measured, task):
    assert measured(task, np.random.default_rng(0).permutation)[0].worse > 0.1


@pytest.mark.parametrize(
    ("task", "change"),
    [
        ("binary", lambda outcome: np.maximum(outcome, np.arange(600) % 4 > 0)),
        ("regression", lambda outcome: outcome + 80),
    ],
)
def test_a_rate_or_a_mean_that_rose_is_surely_worse_calibrated(measured, task, change):
    assert measured(task, change)[1].worse > 0.05


def test_a_metric_that_the_evidence_lacks_is_left_out(measured):
    kinds = [quality.kind for quality in measured("binary", without=["roc_auc"])]
    assert kinds == ["calibration"]


@pytest.mark.parametrize(("task", "positives", "hours", "few"), [
    ("regression", 600, 3, "labelled rows in 3 hours, at least 10 needed"),
    ("binary", 0, 24, "labelled rows of the rarest class in 0 hours, at least 10 needed"),
    ("binary", 9, 24, "labelled rows of the rarest class in 1 hours, at least 10 needed"),
    ("binary", 300, 24, ""),
])  # fmt: skip
def test_labels_of_too_few_hours_are_said_with_what_is_needed_and_not_judged(
    measured, task, positives, hours, few
):
    change = {"binary": lambda outcome: np.arange(len(outcome)) < positives}
    found = measured(task, change.get(task, lambda outcome: outcome), hours=hours, what=None)
    assert (found["few"], found["qualities"] == ()) == (few, bool(few))


def test_absent_evidence_is_empty_and_null_is_undefined(tmp_path):
    assert performance.evidence(tmp_path) == {}
    (tmp_path / "reports").mkdir()
    text = '{"holdout": {"roc_auc": {"value": null, "low": null, "high": null}}}'
    (tmp_path / "reports" / "metrics.json").write_text(text)
    assert math.isnan(performance.evidence(tmp_path)["roc_auc"].value)


@pytest.mark.parametrize("task", ["binary", "multiclass"])
def test_calibrated_predictions_are_not_worse_calibrated_however_few(pinned, task):
    generator, card = np.random.default_rng(0), pinned(task).card
    evidence = {"calibration_error": Interval(0.0, 0.0, 0.0)}
    worse = []
    for rows in (60, 600) * 8:
        prediction = generator.dirichlet([1, 1, 1], rows)
        ends = prediction.cumsum(axis=1)[:, :-1]
        outcome = (generator.random((rows, 1)) > ends).sum(axis=1)
        if task == "binary":
            prediction, outcome = prediction[:, 1], (outcome == 1) * 1.0
        now = metrics.intervals(task, outcome.astype(float), prediction, card.threshold, draws=50)
        chance = performance.chance_calibration_error(card, prediction)
        (calibration,) = performance.qualities(card, now, evidence, chance)
        worse.append(calibration.worse)
    assert max(worse) < 0.01
