"""The gate's rule on fairness: rates of groups against rates counted by hand."""

from __future__ import annotations

import copy
import dataclasses

import numpy as np
import pytest

from mlops.base.errors import UserError
from mlops.gitops.params import RULES, Gate
from mlops.gitops.rules import fairness
from tests.mlops.gitops.test_gate import LIMITS, Contest, candidate_of


@pytest.fixture(scope="module")
def contest(finished):
    """Half of the rows in each of the groups `a` and `b` of a column, in turns."""
    contest = Contest(*candidate_of(finished("trips")))
    holdout = contest.base.holdout
    groups = np.where(np.arange(len(holdout)) % 2, "b", "a")
    spec = dataclasses.replace(contest.base.spec, slices=("group",))
    contest.base = dataclasses.replace(
        contest.base, holdout=holdout.assign(group=groups), spec=spec
    )
    return contest


def judged(contest, prediction, limits, **gate):
    settings = {"rules": ("fairness",), "fairness": {"group": limits}, **gate}
    return contest.decide(prediction, **settings)


def scores(contest, share):
    """Probabilities that select every row of `a`, and about a share of those of `b`."""
    group = contest.base.holdout["group"].to_numpy()
    chosen = np.random.default_rng(3).random(len(group)) < share
    return np.where((group == "a") | chosen, 0.9, 0.0)


@pytest.mark.parametrize(
    ("measure", "of"),
    [("selection_rate", None), ("true_positive_rate", 1), ("false_positive_rate", 0)],
)
def test_a_rate_is_that_of_the_rows_it_is_about(contest, measure, of):
    prediction = scores(contest, 0.6)
    group, outcome = contest.base.holdout["group"], contest.outcome
    about = (group == "b") & (True if of is None else outcome == of)
    rate = (prediction[about] > 0.5).mean()
    difference, ratio = (
        judged(contest, prediction, {f"{measure}_{kind}": limit}).rules[0]
        for kind, limit in (("difference", 0.1), ("ratio", 0.8))
    )
    assert not difference.passed
    assert not ratio.passed
    assert difference.found.startswith(f"{1 - rate:.4f} (")
    assert ratio.found.startswith(f"{rate:.4f} (")
    assert difference.found.endswith(f": b {rate:.4f}, a 1.0000")


def test_groups_that_fare_alike_pass_and_the_interval_holds_the_difference(contest):
    verdict = judged(contest, scores(contest, 1.0), {"selection_rate_difference": 0.0})
    assert verdict.accepted, verdict.line
    found = judged(contest, scores(contest, 0.6), {"selection_rate_difference": 1.0}).rules[0].found
    value, low, high = (
        float(part) for part in found.replace("(", "").replace("to ", "").split(")")[0].split()
    )
    assert low < value < high


def test_what_can_not_be_compared_fails_unless_too_few_are_accepted(contest):
    limits, large = {"accuracy_difference": 1.0}, {"slice_rows": 10**6}
    verdict = judged(contest, scores(contest, 1.0), limits, **large)
    assert "found 0 of 2 groups with 1000000 rows" in verdict.line
    assert judged(contest, scores(contest, 1.0), limits, too_few="accept", **large).accepted
    none = judged(contest, scores(contest, 1.0) * 0, {"selection_rate_ratio": 0.8})
    assert "found –: a 0.0000, a 0.0000, expected at least 0.8" in none.line


@pytest.mark.parametrize("empty", ["a", "b"])
@pytest.mark.parametrize("kind", ["difference", "ratio"])
def test_a_group_without_a_rate_is_a_refusal_wherever_it_stands(contest, empty, kind):
    group = contest.base.holdout["group"].to_numpy()
    alone = copy.copy(contest)
    outcome = np.where(group == empty, 0, contest.outcome)
    alone.base = dataclasses.replace(contest.base, outcome=outcome)
    lenient = {f"true_positive_rate_{kind}": {"difference": 1.0, "ratio": 0.0}[kind]}
    verdict = judged(alone, scores(contest, 0.6), lenient)
    assert not verdict.accepted
    assert f"found –: none of {empty}, expected" in verdict.line


@pytest.mark.parametrize(
    ("limits", "line"),
    [
        ({"groop": {}}, "found 'groop', expected a column of SLICES: group; did you mean 'group'?"),
        (
            {"group": {"selection_ratio": 1}},
            "found 'selection_ratio', expected a measure: selection",
        ),
        ({"group": {"mean_error_ratio": 1}}, "found 'mean_error_ratio', expected a measure: selec"),
    ],
)
def test_an_unknown_column_or_measure_is_refused(limits, line):
    gate = LIMITS.model_copy(update={"fairness": limits})
    with pytest.raises(UserError, match="^params.yaml: gate.fairness: ") as error:
        fairness.require(gate, "binary", ("group",))
    assert line in str(error.value)


def test_a_limit_that_no_rule_asks_for_is_refused():
    with pytest.raises(ValueError, match="or the rule `fairness` in gate.rules"):
        Gate(**LIMITS.model_dump() | {"rules": RULES, "fairness": {"group": {}}})


def test_means_of_a_regression_have_no_ratio():
    gate = LIMITS.model_copy(update={"fairness": {"group": {"mean_error_ratio": 0.8}}})
    with pytest.raises(UserError, match="found 'mean_error_ratio', expected a measure: mean_pred"):
        fairness.require(gate, "regression", ("group",))


@pytest.mark.parametrize(("task", "measure"), [("wine", "accuracy"), ("diabetes", "mean_error")])
def test_other_tasks_have_rates_of_their_own(finished, task, measure):
    params, candidate = candidate_of(finished(task))
    limits = {candidate.spec.slices[0]: {f"{measure}_difference": 0.0}}
    settings = {"rules": ("fairness",), "fairness": limits, "slice_rows": 1}
    contest = Contest.__new__(Contest)
    contest.params, contest.base = params, candidate
    (rule,) = contest.decide(candidate.prediction, **settings).rules
    assert not rule.passed
    assert float(rule.found.split()[0].rstrip(":")) > 0
