"""Geometry of the charts: values to positions in an SVG, positions to paths."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pandas as pd

WIDTH, HEIGHT = 320, 240
LEFT, RIGHT, TOP, BOTTOM = 38, 314, 26, 204


@dataclass(frozen=True)
class Axis:
    """A linear scale from values low..high to positions start..end."""

    low: float
    high: float
    start: float
    end: float

    def at(self, value: float) -> float:
        """Position of a value, rounded to a tenth of a unit to keep the page small."""
        part = (value - self.low) / ((self.high - self.low) or 1)
        return round(self.start + part * (self.end - self.start), 1)

    def value_at(self, position: float) -> float:
        """Value at a position: the inverse of `at`."""
        part = (position - self.start) / (self.end - self.start)
        return self.low + part * (self.high - self.low)

    def ticks(self) -> list[tuple[float, str]]:
        """Three to eight round values within the axis, with their text."""
        rough = ((self.high - self.low) or 1) / 5
        power = 10 ** math.floor(math.log10(rough))
        step = next(power * m for m in (1, 2, 5, 10) if power * m >= rough * 0.7)
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        places = max(0, -math.floor(math.log10(step) + 1e-9))
        return [
            (self.at(i * step), f"{i * step:,.{places}f}".replace("-", "−"))
            for i in range(first, last + 1)
        ]


@dataclass(frozen=True)
class Mark:
    """A path, its style (CSS classes of the template) and its text in the legend, if any."""

    style: str
    path: str
    legend: str = ""


@dataclass(frozen=True)
class Chart:
    """Marks on two axes, with title, note and labels."""

    title: str
    note: str
    x_label: str
    y_label: str
    x: Axis
    y: Axis
    marks: Sequence[Mark]


@dataclass(frozen=True)
class Plane:
    """Two axes, and the paths of what is drawn on them."""

    x: Axis
    y: Axis

    @classmethod
    def over(cls, x: tuple[float, float], y: tuple[float, float]) -> Plane:
        return cls(Axis(*x, LEFT, RIGHT), Axis(*y, BOTTOM, TOP))

    def line(self, xs: Iterable[float], ys: Iterable[float]) -> str:
        points = zip(xs, ys, strict=True)
        return "M" + "L".join(f"{self.x.at(x)} {self.y.at(y)}" for x, y in points)

    def steps(self, xs: Iterable[float], ys: Iterable[float]) -> str:
        first, *others = zip(xs, ys, strict=True)
        path = (f"H{self.x.at(x)}V{self.y.at(y)}" for x, y in others)
        return f"M{self.x.at(first[0])} {self.y.at(first[1])}{''.join(path)}"

    def dots(self, xs: Iterable[float], ys: Iterable[float]) -> str:
        # A stroke without length and with round caps is a dot.
        points = zip(xs, ys, strict=True)
        return "".join(f"M{self.x.at(x)} {self.y.at(y)}h0" for x, y in points)

    def whiskers(self, table: pd.DataFrame, x: str) -> str:
        spans = zip(table[x], table["low"], table["high"], strict=True)
        return "".join(
            f"M{self.x.at(x)} {self.y.at(low)}V{self.y.at(high)}" for x, low, high in spans
        )

    def histogram(self, table: pd.DataFrame, heights: Iterable[float]) -> str:
        bars = zip(table["low"], table["high"], heights, strict=True)
        steps = (f"L{self.x.at(a)} {self.y.at(h)}H{self.x.at(b)}" for a, b, h in bars)
        return f"M{self.x.start} {self.y.start}{''.join(steps)}V{self.y.start}Z"

    def chart(self, title: str, note: str, labels: tuple[str, str], *marks: Mark) -> Chart:
        return Chart(title, note, *labels, self.x, self.y, marks)
