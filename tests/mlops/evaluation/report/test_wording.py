"""A number is written with the digits that count."""

from __future__ import annotations

import pytest

from mlops.evaluation.report.wording import number


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.73149, "0.731"),
        (34.343, "34.34"),
        (1234567.8, "1,234,568"),
        (-12.5, "−12.50"),
        (3e-17, "0.000"),
        (0.00012, "1.2e−04"),
        (float("nan"), "–"),
        (None, "–"),
    ],
)
def test_numbers_show_the_digits_that_count(value: float | None, text: str) -> None:
    assert number(value) == text
