"""The population stability index: its formula, its empty bins, and what chance makes of it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops.evaluation.stability import index_beyond_chance, stability_index

COUNTS = st.lists(st.integers(0, 1000), min_size=10, max_size=10)
LIMIT = 0.2


@pytest.mark.parametrize(
    ("expected", "actual", "index"),
    [
        ([500, 300, 200], [200, 200, 100], -0.1 * np.log(0.4 / 0.5) + 0.1 * np.log(0.4 / 0.3)),
        # Half a row of 100.5, where 50 of 100 were expected.
        ([50, 50], [0, 100], (0.5 / 100.5 - 0.5) * np.log(0.5 / 100.5 / 0.5)
         + (100 / 100.5 - 0.5) * np.log(100 / 100.5 / 0.5)),
        ([50, 50, 0], [50, 50, 0], 0.0),
        ([0, 0], [3, 4], 0.0),
        ([], [3, 4], 0.0),
    ],
)  # fmt: skip
def test_an_empty_bin_counts_as_half_a_row_and_an_empty_histogram_as_no_drift(
    expected, actual, index
):
    assert stability_index(expected, actual) == pytest.approx(index)


@given(COUNTS, COUNTS, st.integers(0, 3))
def test_it_is_never_negative_the_same_both_ways_and_blind_to_bins_empty_on_both(one, other, more):
    index = stability_index(one, other)
    assert index >= 0
    assert stability_index(one, one) == pytest.approx(0)
    assert stability_index(other + [0] * more, one + [0] * more) == pytest.approx(index)


@pytest.mark.parametrize("rows", [20, 200, 500, 5000])
def test_two_samples_of_one_population_seldom_drift_however_small(rows):
    random = np.random.default_rng(1)
    indexes = []
    for _ in range(200):
        shares = random.dirichlet(np.ones(10))
        expected, actual = random.multinomial(5000, shares), random.multinomial(rows, shares)
        indexes.append(index_beyond_chance(expected, actual))
    assert np.mean([index > 0 for index in indexes]) < 0.05
    assert np.mean([index > LIMIT for index in indexes]) < 0.01


def test_real_drift_is_seen_through_chance():
    random = np.random.default_rng(0)
    expected = random.multinomial(2000, [0.1] * 10)
    actual = random.multinomial(400, [0.01] * 5 + [0.19] * 5)
    assert index_beyond_chance(expected, actual) > LIMIT
