"""A measured figure beside its goal."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

STARTED = time.monotonic()
WIDTHS = (48, 34, 17)


class Failed(Exception):
    """A benchmark could not be measured; says why in one line."""


@dataclass(frozen=True)
class Figure:
    """One line of the table; `reached` is None where there is no goal to judge by."""

    name: str
    value: str
    goal: str = ""
    reached: bool | None = None

    @property
    def line(self) -> str:
        verdict = {True: "ok", False: "short", None: "printed"}[self.reached]
        cells = zip((self.name, self.value, self.goal), WIDTHS, strict=True)
        return "  ".join([*(f"{cell:<{width}}" for cell, width in cells), verdict])


def at_most(name: str, value: float, limit: float, detail: str) -> Figure:
    """A figure that is good when small."""
    return Figure(name, f"{value:.2f} ({detail})", f"at most {limit:g}", value <= limit)


def at_least(name: str, value: float, limit: float, detail: str, digits: int = 2) -> Figure:
    """A figure that is good when large."""
    return Figure(name, f"{value:.{digits}f} ({detail})", f"at least {limit:g}", value >= limit)


def ratio(ours: Sequence[float], reference: Sequence[float]) -> tuple[float, str]:
    """The ratio of two medians of seconds, and the seconds themselves in words."""
    above, below = median(ours), median(reference)
    return above / below, f"{above:.1f} s / {below:.1f} s"


def progress(doing: str) -> None:
    """Say on standard error what runs now, with the seconds since the benchmarks began."""
    print(f"[{time.monotonic() - STARTED:5.0f} s] {doing}", file=sys.stderr, flush=True)
