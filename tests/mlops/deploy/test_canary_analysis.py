"""The decision alone: the same numbers give the same answer, and every limit bites."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from mlops.deploy.canary_analysis import (
    NOISE_SECONDS,
    Pair,
    beyond_chance,
    breach,
    paired_index,
    stability_index,
)
from mlops.deploy.manifest import Limits
from mlops.deploy.target import Health

LIMITS = Limits()
SOUND = Health(1000, 0, 0.05, (100,) * 10)
COUNTS = st.lists(st.integers(0, 1000), min_size=10, max_size=10).map(tuple)
HEALTH = st.builds(
    Health, st.integers(1, 10_000), st.just(0), st.floats(0.001, 1.0), COUNTS
)  # fmt: skip


@given(HEALTH)
def test_a_version_that_is_as_good_as_the_running_one_goes_on(health):
    scores = tuple(float(n) for n in health.scores)
    assert breach(LIMITS, health, health, Pair(scores, scores)) == ""


@given(HEALTH, HEALTH, st.integers(1, 10_000))
def test_more_failed_requests_than_the_limit_are_always_a_breach(running, new, errors):
    assume(errors / (new.requests + errors) > LIMITS.errors)
    failing = dataclasses.replace(new, requests=new.requests + errors, errors=errors)
    why = breach(LIMITS, running, failing, Pair())
    assert why == f"{errors} of {failing.requests} requests failed, limit 0.01"


@given(HEALTH, st.floats(1.0, 100.0))
def test_more_time_than_the_limit_is_a_breach_and_the_machine_s_noise_is_none(running, times):
    new = dataclasses.replace(running, seconds=running.seconds * times)
    slower = times > LIMITS.latency and new.seconds > running.seconds + NOISE_SECONDS
    assert bool(breach(LIMITS, running, new, Pair())) == slower


def test_scores_that_moved_are_a_breach():
    moved = dataclasses.replace(SOUND, scores=(0, 0, 0, 0, 0, 100, 200, 300, 200, 200))
    assert breach(LIMITS, SOUND, moved, Pair()).startswith("scores drift by ")


def test_answers_to_the_same_rows_that_moved_are_a_breach():
    pair = Pair(tuple(np.linspace(0, 1, 100)), tuple(np.linspace(0.5, 1, 100)))
    assert breach(LIMITS, SOUND, SOUND, pair).startswith("scores drift by ")


def test_what_the_running_version_never_answered_is_no_measure():
    silent = Health(0, 0, 0.0)
    assert breach(LIMITS, silent, dataclasses.replace(SOUND, seconds=9.0), Pair()) == ""


@given(COUNTS, COUNTS)
def test_the_index_is_nought_for_equals_never_less_and_the_same_both_ways(one, other):
    assert stability_index(one, one) == pytest.approx(0)
    assert stability_index(one, other) >= 0
    assert stability_index(one, other) == pytest.approx(stability_index(other, one))


@given(st.integers(0, 2**32 - 1), st.integers(20, 400), st.integers(20, 4000))
def test_chance_alone_is_no_drift(seed, few, many):
    """Two samples of one population, however few: at most once in a while above the limit."""
    draw = np.random.default_rng(seed)
    over = 0
    for _ in range(10):
        shares = draw.dirichlet(np.ones(10))
        found = beyond_chance(draw.multinomial(many, shares), draw.multinomial(few, shares))
        over += found > LIMITS.drift
    assert over <= 2


def test_real_drift_is_seen_through_chance():
    draw = np.random.default_rng(0)
    before = draw.multinomial(2000, [0.1] * 10)
    after = draw.multinomial(400, [0.01] * 5 + [0.19] * 5)
    assert beyond_chance(before, after) > LIMITS.drift


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=200))
def test_equal_answers_to_the_same_rows_never_drift(values):
    assert paired_index(Pair(tuple(values), tuple(values))) == pytest.approx(0)


@given(st.lists(st.floats(-1e6, 1e6), max_size=50), st.lists(st.floats(-1e6, 1e6), max_size=50))
def test_any_answers_have_an_index(running, new):
    assert paired_index(Pair(tuple(running), tuple(new))) >= 0


def test_a_constant_score_that_moves_is_drift():
    assert paired_index(Pair((0.2,) * 50, (0.9,) * 50)) > LIMITS.drift
