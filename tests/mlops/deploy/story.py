"""A rollout on any target: a version takes over in steps, and the way back is undone for drift."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mlops.base.errors import Refused
from mlops.deploy.manifest import Limits, Rollout
from mlops.deploy.rollout import roll_out
from mlops.deploy.target import Endpoint, Running
from mlops.registry.pin import Pin

Bundle = tuple[Path, Pin]


def rollout(steps: tuple[int, ...] = (10, 50), drift: float = 0.2) -> Rollout:
    """Judged by reference rows alone, and not by latency."""
    limits = Limits(latency=1000.0, drift=drift)
    return Rollout(steps=steps, bake_seconds=0, requests=20, limits=limits)


def takes_over(
    target: Any, endpoint: Endpoint, bundles: list[Bundle], steps: tuple[int, ...] = (10, 50)
) -> None:
    """Roll out a flat bundle, then a steep one; going back is refused for its scores."""
    (first, one), (second, two) = bundles[:2]
    assert list(roll_out(target, endpoint, one, first, rollout(steps))) == []
    assert target.current(endpoint) == Running({one.digest: 100})
    lines = list(roll_out(target, endpoint, two, second, rollout(steps, drift=100.0)))
    assert [line.split(" beside")[0] for line in lines[::2]] == [
        f"{two.digest[:12]} answers {percent} %" for percent in steps
    ]
    assert target.current(endpoint) == Running({two.digest: 100})
    reason = f"{one.digest[:12]} undone at {steps[0]} %"
    with pytest.raises(Refused, match=reason):
        list(roll_out(target, endpoint, one, first, rollout(steps)))
    running = target.current(endpoint)
    assert running.traffic == {two.digest: 100}
    assert reason in running.note
