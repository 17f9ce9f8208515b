"""How well it came true is measured for every task, and surely worse means surely."""

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
    """What a task's labels say; `change` makes them of what the model learnt."""

    def run(task, change=lambda outcome: outcome, count=600, without=()):
        place = pinned(task)
        rows = bundles.frame(4000, seed=3)[:count]
        ids = place.answer(rows)
        outcome = bundles.outcome(bundles.frame(4000, seed=3), task)[:count]
        place.labels({"request": ids, "outcome": change(outcome)}, "labels.parquet")
        known = performance.evidence(place.folder)
        for name in without:
            del known[name]
        with logs.database() as database:
            logs.read(database, "logs/production", place.root, (place.card, place.pin.digest), NOW)
            labels.read(database, "labels", place.root, place.card)
            return performance.measure(database, "true", place.card, known)

    return run


@pytest.mark.parametrize("task", NAMES)
def test_what_comes_true_as_in_the_evidence_is_not_worse(measured, task):
    found = measured(task)
    assert [quality.metric for quality in found] == NAMES[task]
    assert [quality.kind for quality in found] == ["performance", "calibration"]
    assert all(quality.worse < 0.02 for quality in found)
    assert all(quality.low <= quality.value <= quality.high for quality in found)


@pytest.mark.parametrize("task", NAMES)
def test_outcomes_that_have_nothing_to_do_with_the_predictions_are_surely_worse(measured, task):
    random = np.random.default_rng(0)
    found = measured(task, random.permutation)
    assert found[0].worse > 0.1


def test_a_rate_that_rose_is_surely_worse_calibrated(measured):
    _, calibration = measured("binary", lambda outcome: np.maximum(outcome, np.arange(600) % 4 > 0))
    assert calibration.worse > 0.05


def test_a_mean_that_moved_is_surely_biased(measured):
    _, bias = measured("regression", lambda outcome: outcome + 80)
    assert bias.worse > 0.5


def test_what_the_labels_or_the_evidence_leave_undefined_is_left_out(measured):
    found = measured("binary", lambda outcome: outcome * 0)
    assert [quality.kind for quality in found] == ["calibration"]


def test_without_the_evidences_metric_there_is_nothing_to_compare_with(measured):
    assert [q.kind for q in measured("binary", without=["roc_auc"])] == ["calibration"]


def test_evidence_that_is_not_there_is_empty_and_null_is_undefined(tmp_path, place):
    assert performance.evidence(tmp_path) == {}
    assert isinstance(performance.evidence(place.folder)["roc_auc"], Interval)
    (tmp_path / "reports").mkdir()
    text = '{"holdout": {"roc_auc": {"value": null, "low": null, "high": null}}}'
    (tmp_path / "reports" / "metrics.json").write_text(text)
    assert math.isnan(performance.evidence(tmp_path)["roc_auc"].value)


@pytest.mark.parametrize("task", ["binary", "multiclass"])
def test_predictions_that_are_all_true_are_not_worse_calibrated_however_few(pinned, task):
    random, card = np.random.default_rng(0), pinned(task).card
    known = {"calibration_error": Interval(0.0, 0.0, 0.0)}
    found = []
    for rows in (60, 600) * 20:
        shares = random.dirichlet([1, 1, 1], rows)
        outcome = (random.random((rows, 1)) > shares.cumsum(axis=1)[:, :-1]).sum(axis=1)
        said = shares
        if task == "binary":
            said, outcome = shares[:, 1], (outcome == 1) * 1.0
        now = metrics.intervals(task, outcome.astype(float), said, card.threshold, draws=50)
        chance = performance._chance(card, said)
        found += performance._qualities(card, now, known, chance)[1:]
    assert {quality.kind for quality in found} == {"calibration"}
    assert max(quality.worse for quality in found) < 0.01
