"""A column is cut where its reference lies, whatever comes later."""

import numpy as np
import pandas as pd
from hypothesis import given
from hypothesis import strategies as st

from mlops.monitoring import bins

NUMBERS = st.floats(allow_nan=False, allow_infinity=False, width=32)


def shares(cut, values):
    return list(cut.shares(cut.codes(pd.Series(values))))


def test_tenths_of_the_reference_hold_a_tenth_each():
    reference = pd.Series(np.random.default_rng(0).normal(size=10_000))
    cut = bins.numbers(reference)
    assert len(cut.labels) == 10
    assert np.allclose(shares(cut, reference), 0.1, atol=0.001)


def test_one_far_value_leaves_the_other_bins_as_they_are():
    reference = pd.Series(np.arange(1000.0))
    cut = bins.numbers(reference)
    assert np.allclose(shares(cut, [*reference, 1e30]), 0.1, atol=0.002)


def test_a_value_that_many_share_is_a_bin_of_its_own():
    cut = bins.numbers(pd.Series([0.0] * 900 + list(np.linspace(1, 2, 100))))
    assert "0.000" in cut.labels
    assert shares(cut, [0.0, 0.0, -0.1, 0.1])[cut.labels.index("0.000")] == 0.5


def test_a_constant_tells_what_lies_below_and_above():
    cut = bins.numbers(pd.Series([7.0] * 100))
    assert cut.labels == ("to 7.000", "7.000", "over 7.000")
    assert shares(cut, [6.9, 7.0, 7.0, 7.1]) == [0.25, 0.5, 0.25]


def test_a_column_without_a_value_has_one_bin():
    cut = bins.numbers(pd.Series([np.nan] * 3))
    assert shares(cut, [1.0, np.nan]) == [1.0]
    assert bins.words(pd.Series([None], dtype=object)).labels == ("others",)


def test_seldom_and_unknown_words_are_the_others():
    reference = pd.Series(["a"] * 700 + ["b"] * 295 + ["c"] * 5)
    cut = bins.words(reference)
    assert cut.labels == ("a", "b", "others")
    assert shares(cut, ["a", "c", "new", None]) == [1 / 3, 0, 2 / 3]


@given(st.lists(NUMBERS, min_size=1, max_size=50), st.lists(NUMBERS | st.none(), max_size=20))
def test_every_value_has_one_bin(reference, values):
    cut = bins.numbers(pd.Series(reference, dtype="float64"))
    codes = cut.codes(pd.Series(values, dtype="float64"))
    assert len(codes) == sum(value is not None for value in values)
    assert all(0 <= code < len(cut.labels) for code in codes)
    assert len(cut.labels) == (len(cut.edges) + 1)
