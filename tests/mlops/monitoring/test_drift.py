"""Drift of a column: measured in the reference's bins, by the index that the canary uses too."""

import numpy as np
import pandas as pd
import pytest

from mlops.evaluation.stability import index_beyond_chance
from mlops.monitoring import bins


@pytest.mark.parametrize(("shift", "least", "most"), [(0.0, 0.0, 0.0), (1.0, 0.5, 10.0)])
def test_a_shift_of_one_deviation_is_far_beyond_any_limit_and_none_is_none(shift, least, most):
    random = np.random.default_rng(2)
    cut = bins.numeric(pd.Series(random.normal(size=5000)))
    counts = [cut.counts(pd.Series(random.normal(at, size=500))) for at in (0, shift)]
    assert least <= index_beyond_chance(*counts) <= most
