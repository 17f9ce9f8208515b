"""Seed, parallelism and searcher decide the search, and hand-set candidates come first."""

import os
import random
from contextlib import contextmanager
from multiprocessing import active_children
from operator import itemgetter

import pytest
from hyperopt import hp

from mlops.base.errors import UserError
from mlops.training import search, searchers, space, workers

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


@pytest.mark.parametrize("name", ["hyperopt", "optuna"])
def test_the_seed_alone_decides_the_candidates(name):
    outcomes = minimize(12, name=name)
    assert outcomes == minimize(12, name=name)
    assert outcomes[2:] != minimize(12, seed=2, name=name)[2:]
    assert outcomes[:8] == minimize(8, name=name)


def test_the_order_in_which_the_trials_of_a_round_end_changes_nothing(monkeypatch):
    @contextmanager
    def shuffled(objective, parallelism, spark):
        def run(candidates):
            ended = [(number, objective(each)) for number, each in enumerate(candidates)]
            yield from random.sample(ended, len(ended))

        yield run

    expected = minimize(12, parallelism=2)
    monkeypatch.setattr(workers, "started", shuffled)
    assert minimize(12, parallelism=2) == expected
    assert minimize(12, parallelism=3) != expected


@pytest.mark.parametrize("name", ["hyperopt", "optuna"])
def test_trials_drawn_at_random_are_one_round_and_the_same_for_any_number_at_once(
    monkeypatch, name
):
    rounds = []

    @contextmanager
    def counted(objective, parallelism, spark):
        def run(candidates):
            rounds.append(len(candidates))
            yield from enumerate(map(objective, candidates))

        yield run

    monkeypatch.setattr(workers, "started", counted)
    outcomes = [minimize(11, parallelism=number, name=name)[:8] for number in (1, 2)]
    assert outcomes[0] == outcomes[1]
    assert rounds == [2, 6, 1, 1, 1, 2, 6, 2, 1]
    monkeypatch.setattr(type(searchers.searcher(name, SPACE, 1)), "random_trials", 0)
    assert minimize(8, name=name) == outcomes[0]
    assert rounds[-7:] == [2] + [1] * 6


@pytest.mark.slow
def test_processes_give_each_candidate_s_own_outcome():
    with workers.started(dict, 2) as run:
        assert sorted(run([{"x": 1}, {"x": 2}, {"x": 3}])) == [
            (0, {"x": 1}), (1, {"x": 2}), (2, {"x": 3})
        ]  # fmt: skip


@pytest.mark.slow
def test_the_first_failure_ends_the_processes_and_a_killed_one_is_a_line():
    with pytest.raises(KeyError, match="found"), workers.started(itemgetter("found"), 2) as run:
        list(run([{"lost": 1}, {"found": 1}]))
    assert not active_children()
    line = "tune.parallelism: a trial's process was killed, .*; expected fewer at once"
    with pytest.raises(UserError, match=line), workers.started(os._exit, 2) as run:
        code: list = [1]
        list(run(code))


DRAWN = {
    "uniform": (hp.uniform("a", 1, 2), lambda v: 1 <= v <= 2),
    "loguniform": (hp.loguniform("b", -2, 1), lambda v: 0.13 < v < 2.72),
    "quniform": (hp.quniform("c", 10, 30, 5), lambda v: v in (10, 15, 20, 25, 30)),
    "uniformint": (hp.uniformint("d", 3, 5), lambda v: v in (3, 4, 5) and isinstance(v, int)),
    "randint": (hp.randint("e", 2), lambda v: v in (0, 1)),
    "randint from": (hp.randint("f", 4, 6), lambda v: v in (4, 5)),
    "choice": (hp.choice("g", ["saga", None]), lambda v: v in ("saga", None)),
    "expression": (2 * hp.uniform("h", 1, 2), lambda v: 2 <= v <= 4),
}


@pytest.mark.parametrize("name", ["hyperopt", "optuna"])
def test_every_value_that_is_proposed_is_one_that_hyperopt_could_draw(name):
    own = {key: value for key, (value, _) in DRAWN.items()}
    proposed = searchers.searcher(name, {"near": own}, 1).propose(20)
    for candidate in proposed:
        assert all(is_one(candidate[key]) for key, (_, is_one) in DRAWN.items()), candidate
    assert len({candidate["choice"] for candidate in proposed}) == 2


def test_what_optuna_can_t_draw_is_refused_by_name():
    own = {"normal": hp.normal("n", 0, 1)}
    assert searchers.searcher("hyperopt", {"near": own}, 1).propose(1)
    with pytest.raises(UserError) as error:
        searchers.searcher("optuna", {"near": own}, 1)
    assert str(error.value) == (
        "models.py: SPACE: near.normal: found hp.normal, which tune.searcher 'optuna' can't draw; "
        "expected one of hp.uniform, hp.quniform, hp.loguniform, hp.randint, hp.uniformint, "
        "hp.choice"
    )
    with pytest.raises(UserError, match="tune.searcher: found 'optuno'; did you mean 'optuna'"):
        searchers.searcher("optuno", {"near": own}, 1)


@pytest.mark.parametrize("max_evals", [1, 3])
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


@pytest.mark.parametrize("name", ["hyperopt", "optuna"])
def test_the_search_learns_where_the_bowl_is_lowest(name):
    outcomes = minimize(max_evals=30, name=name, parallelism=2)
    assert min(outcome["loss"] for outcome in outcomes) < 0.1
    late = [outcome["candidate"]["family"] for outcome in outcomes[15:]]
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
