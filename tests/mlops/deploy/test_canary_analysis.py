"""The decision alone: the same numbers give the same answer, and every limit is enforced."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from mlops.deploy.canary_analysis import NOISE_SECONDS, breach, paired_index
from mlops.deploy.manifest import Limits
from mlops.deploy.target import Health

LIMITS = Limits()
SOUND = Health(1000, 0, 0.05, (100,) * 10)
COUNTS = st.lists(st.integers(0, 1000), min_size=10, max_size=10).map(tuple)
HEALTH = st.builds(Health, st.integers(1, 10_000), st.just(0), st.floats(0.001, 1.0), COUNTS)
SCORES = st.floats(-1e6, 1e6)


@given(HEALTH, st.lists(SCORES.map(lambda score: (score, score)), max_size=200))
def test_a_version_that_is_as_good_as_the_running_one_goes_on(health, pairs):
    assert breach(LIMITS, health, health, tuple(pairs)) == ""


@given(HEALTH, HEALTH, st.integers(1, 10_000))
def test_more_failed_requests_than_the_limit_are_always_a_breach(running, new, errors):
    assume(errors / (new.requests + errors) > LIMITS.errors)
    failing = dataclasses.replace(new, requests=new.requests + errors, errors=errors)
    reason = breach(LIMITS, running, failing, ())
    assert reason == f"{errors} of {failing.requests} requests failed, limit 0.01"


@given(HEALTH, st.floats(1.0, 100.0))
def test_more_time_than_the_limit_is_a_breach_and_the_machines_noise_is_none(running, times):
    new = dataclasses.replace(running, seconds=running.seconds * times)
    slower = times > LIMITS.latency and new.seconds > running.seconds + NOISE_SECONDS
    assert bool(breach(LIMITS, running, new, ())) == slower


@pytest.mark.parametrize(
    ("scores", "pairs"),
    [
        ((0, 0, 0, 0, 0, 100, 200, 300, 200, 200), ()),
        (SOUND.scores, tuple(zip(np.linspace(0, 1, 100), np.linspace(0.5, 1, 100), strict=True))),
        (SOUND.scores, ((0.2, 0.9),) * 50),
    ],
    ids=["of all requests", "for the same rows", "of a constant"],
)
def test_scores_that_moved_are_a_breach(scores, pairs):
    new = dataclasses.replace(SOUND, scores=scores)
    assert breach(LIMITS, SOUND, new, pairs).startswith("scores drift by ")


def test_a_running_version_that_never_answered_is_no_measure():
    silent = Health(0, 0, 0.0)
    assert breach(LIMITS, silent, dataclasses.replace(SOUND, seconds=9.0), ()) == ""


@given(st.lists(st.tuples(SCORES, SCORES), max_size=200))
def test_any_scores_have_an_index(pairs):
    assert paired_index(tuple(pairs)) >= 0
