"""The seed decides the search, and hand-set candidates come first."""

import pytest
from hyperopt import hp

from mlops.base.errors import UserError
from mlops.training import search

SPACE = {
    "near": {"x": hp.uniform("near.x", -5, 5), "bias": 1.0, "name": "a"},
    "far": {"x": hp.uniform("far.x", -5, 5), "n": hp.uniformint("far.n", 1, 9)},
}
FIRST = [{"family": "far", "x": 1.0, "n": 2}, {"family": "near", "x": 0.5, "bias": 1.0}]


def bowl(candidate):
    """Lowest, 0, at x = 2 of the family `near`."""
    away = 0.0 if candidate["family"] == "near" else 10.0
    return {"loss": (candidate["x"] - 2) ** 2 + away, "candidate": candidate}


def minimize(max_evals=20, seed=1, first=FIRST, **options):
    return search.minimize(bowl, SPACE, first, max_evals, seed, **options)


def test_the_same_seed_tries_the_same_candidates():
    assert minimize() == minimize()


def test_another_seed_tries_others():
    assert minimize(seed=1)[2:] != minimize(seed=2)[2:]


def test_more_trials_begin_with_the_same_ones():
    assert minimize(max_evals=8) == minimize(max_evals=12)[:8]


@pytest.mark.parametrize("max_evals", [1, 2, 3, 11])
def test_exactly_max_evals_candidates_are_tried_the_hand_set_first(max_evals):
    outcomes = minimize(max_evals)
    assert len(outcomes) == max_evals
    tried = [outcome["candidate"] for outcome in outcomes]
    assert tried[:2] == FIRST[:max_evals]


def test_the_search_learns_where_the_bowl_is_lowest():
    outcomes = minimize(max_evals=60)
    assert min(outcome["loss"] for outcome in outcomes) < 0.05
    late = [outcome["candidate"]["family"] for outcome in outcomes[30:]]
    assert late.count("near") > late.count("far")


def test_a_search_without_hand_set_candidates_tries_both_families():
    families = {outcome["candidate"]["family"] for outcome in minimize(first=[])}
    assert families == {"near", "far"}


def test_candidates_hold_the_constants_and_plain_numbers_for_json():
    for outcome in minimize(first=[]):
        candidate = outcome["candidate"]
        assert {type(value) for value in candidate.values()} <= {str, int, float}
        if candidate["family"] == "near":
            assert (candidate["bias"], candidate["name"]) == (1.0, "a")
        else:
            assert isinstance(candidate["n"], int)


def test_every_outcome_is_reported_as_it_ends():
    reported = []
    assert minimize(on_outcome=reported.append) == reported


def test_a_hand_set_hyperparameter_outside_the_space_is_named():
    with pytest.raises(UserError) as error:
        search.completed({"family": "far", "x": 1.0, "nn": 2}, SPACE)
    assert str(error.value) == "models.py: FIRST: far.nn: not in SPACE; did you mean 'n'?"


def test_a_hand_set_candidate_takes_the_constants_of_its_family():
    assert search.completed({"family": "near", "x": 1.0}, SPACE) == {
        "family": "near", "x": 1.0, "bias": 1.0, "name": "a"
    }  # fmt: skip
