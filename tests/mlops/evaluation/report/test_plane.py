"""Positions and ticks stay on their axis."""

from __future__ import annotations

from mlops.evaluation.report.plane import Axis


def test_ticks_are_round_and_lie_on_the_axis() -> None:
    axis = Axis(-37.0, 142.0, 40, 350)
    assert [text for _, text in axis.ticks()] == ["0", "50", "100"]
    assert all(40 <= position <= 350 for position, _ in axis.ticks())
    shares = [text for _, text in Axis(0, 1, 0, 100).ticks()]
    assert shares == ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]
