"""A rollout's story, told of any target: taken over in steps, and undone for drift."""

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
    """Judged by reference rows alone; how long an answer takes is no matter here."""
    limits = Limits(latency=1000.0, drift=drift)
    return Rollout(steps=steps, bake_seconds=0, requests=20, limits=limits)


def told(
    target: Any, here: Endpoint, bundles: list[Bundle], steps: tuple[int, ...] = (10, 50)
) -> None:
    """A flat bundle, then a steep one in its place; the way back is undone for its scores."""
    (first, one), (second, two) = bundles[:2]
    assert list(roll_out(target, here, one, first, rollout(steps))) == []
    assert target.current(here) == Running({one.digest: 100})
    said = list(roll_out(target, here, two, second, rollout(steps, drift=100.0)))
    assert [line.split(" beside")[0] for line in said[::2]] == [
        f"{two.digest[:12]} answers {percent} %" for percent in steps
    ]
    assert target.current(here) == Running({two.digest: 100})
    with pytest.raises(Refused, match=f"{one.digest[:12]} undone at {steps[0]} %"):
        list(roll_out(target, here, one, first, rollout(steps)))
    found = target.current(here)
    assert found.traffic == {two.digest: 100}
    assert f"{one.digest[:12]} undone at {steps[0]} %" in found.note
