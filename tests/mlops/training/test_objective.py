"""The threshold is the best there is, and rounding does not undo it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from mlops.training.objective import constant, threshold


@settings(max_examples=15)
@given(
    grades=st.lists(st.integers(0, 20), min_size=2, max_size=40),
    seed=st.integers(0, 100),
)
def test_the_threshold_maximises_f1_as_brute_force_does(grades: list[int], seed: int) -> None:
    probability = np.array(grades) / 20
    y = np.random.default_rng(seed).integers(0, 2, len(grades))
    y[0] = 1
    chosen = threshold(y, probability)
    best = max(sk.f1_score(y, probability >= candidate) for candidate in probability)
    assert sk.f1_score(y, probability >= chosen) == pytest.approx(best)


def test_rounding_to_float32_moves_no_row_across_the_threshold() -> None:
    generator = np.random.default_rng(0)
    probability = generator.beta(2, 4, 2000).round(2)
    y = (generator.random(2000) < probability).astype(int)
    chosen = threshold(y, probability)
    single = probability.astype(np.float32).astype(np.float64)
    assert ((probability >= chosen) == (single >= chosen)).all()


def test_a_constant_prediction_has_the_loss_of_chance_of_the_shares_or_of_the_mean() -> None:
    two, three = np.array([0, 1, 1, 1]), np.array([0, 0, 1, 2])
    assert constant("binary", two, two) == 0.5
    shares = np.array([0.5, 0.25, 0.25])
    assert constant("multiclass", three, three) == pytest.approx(-(shares * np.log(shares)).sum())
    values = np.array([1.0, 3.0])
    assert constant("regression", values, np.array([2.0, 5.0])) == pytest.approx(np.sqrt(4.5))
