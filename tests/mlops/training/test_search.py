"""The seed decides the search, and hand-set candidates come first."""

import pytest
from hyperopt import hp

from mlops.base.errors import UserError
from mlops.training import search, space

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


def test_the_seed_alone_decides_the_candidates():
    assert minimize() == minimize()
    assert minimize(seed=1)[2:] != minimize(seed=2)[2:]
    assert minimize(max_evals=8) == minimize()[:8]


@pytest.mark.parametrize("max_evals", [1, 2, 3, 11])
def test_exactly_max_evals_candidates_are_tried_the_hand_set_first(max_evals):
    outcomes = minimize(max_evals)
    assert len(outcomes) == max_evals
    tried = [outcome["candidate"] for outcome in outcomes]
    assert tried[:2] == FIRST[:max_evals]


def test_a_hand_set_candidate_that_leaves_a_value_out_may_win():
    def objective(candidate):
        return {"loss": float("n" in candidate), "candidate": candidate}

    first = [{"family": "far", "x": 1.0}]
    space = {"far": SPACE["far"]}
    outcomes = search.minimize(objective, space, first, 5, 1)
    assert [outcome["loss"] for outcome in outcomes] == [0, 1, 1, 1, 1]


def test_the_search_learns_where_the_bowl_is_lowest():
    outcomes = minimize(max_evals=60)
    assert min(outcome["loss"] for outcome in outcomes) < 0.05
    late = [outcome["candidate"]["family"] for outcome in outcomes[30:]]
    assert late.count("near") > late.count("far")


def test_candidates_of_every_family_hold_the_constants_and_plain_numbers_for_json():
    reported = []
    outcomes = minimize(first=[], on_outcome=reported.append)
    assert outcomes == reported
    candidates = [outcome["candidate"] for outcome in outcomes]
    assert {candidate["family"] for candidate in candidates} == {"near", "far"}
    for candidate in candidates:
        assert {type(value) for value in candidate.values()} <= {str, int, float}
        if candidate["family"] == "near":
            assert (candidate["bias"], candidate["name"]) == (1.0, "a")
        else:
            assert isinstance(candidate["n"], int)


def test_a_hand_set_candidate_takes_the_constants_and_may_hold_nothing_outside_the_space():
    constants = {"bias": 1.0, "name": "a"}
    assert space.completed({"family": "near", "x": 1.0}, SPACE) == {
        "family": "near", "x": 1.0, **constants
    }  # fmt: skip
    with pytest.raises(UserError) as error:
        space.completed({"family": "far", "x": 1.0, "nn": 2}, SPACE)
    assert str(error.value) == "models.py: FIRST: far.nn: not in SPACE; did you mean 'n'?"
