"""A column is cut where its reference lies, whatever values come later."""

import numpy as np
import pandas as pd

from mlops.monitoring import bins


def shares(cut, values):
    counts = cut.counts(pd.Series(values))
    return list(counts / counts.sum())


def test_a_decile_of_the_reference_holds_a_tenth_however_far_another_value_lies():
    reference = pd.Series(np.random.default_rng(0).normal(size=10_000))
    cut = bins.numeric(reference)
    assert len(cut.labels) == 10
    assert np.allclose(shares(cut, reference), 0.1, atol=0.001)
    assert np.allclose(shares(cut, [*reference, 1e30]), 0.1, atol=0.001)


def test_a_value_that_many_rows_have_is_a_bin_of_its_own():
    cut = bins.numeric(pd.Series([0.0] * 900 + list(np.linspace(1, 2, 100))))
    assert shares(cut, [0.0, 0.0, -0.1, 0.1])[cut.labels.index("0.000")] == 0.5
    constant = bins.numeric(pd.Series([7.0] * 100))
    assert constant.labels == ("to 7.000", "7.000", "over 7.000")
    assert shares(constant, [6.9, 7.0, 7.0, 7.1]) == [0.25, 0.5, 0.25]


def test_a_column_without_values_has_one_bin():
    assert shares(bins.numeric(pd.Series([np.nan] * 3)), [1.0, np.nan]) == [1.0]
    assert bins.categorical(pd.Series([None], dtype=object)).labels == ("others",)


def test_rare_and_unknown_categories_are_the_others():
    cut = bins.categorical(pd.Series(["a"] * 700 + ["b"] * 295 + ["c"] * 5))
    assert cut.labels == ("a", "b", "others")
    assert shares(cut, ["a", "c", "new", None]) == [1 / 3, 0, 2 / 3]
