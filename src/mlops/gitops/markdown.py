"""The Markdown that GitHub and Azure DevOps both render: tables, folds, drawn intervals."""

from __future__ import annotations

from collections.abc import Sequence

from mlops.evaluation.metrics import ERRORS
from mlops.gitops.verdict import Compared

HALF = 14
Row = tuple[str, ...]


def folded(title: str, content: str) -> str:
    """Content behind a title that opens on a click."""
    return f"<details><summary>{title}</summary>\n\n{content}\n\n</details>"


def table(head: Row, rows: Sequence[Row]) -> str:
    """A table with its heads."""
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(_cell(c) for c in line) + " |" for line in lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def number(value: float | None) -> str:
    """Four decimals; a dash for what is undefined."""
    return "–" if value is None else f"{value:.4f}"


def signed(value: float | None) -> str:
    """Four decimals with the sign; a dash for what is undefined."""
    return "–" if value is None else f"{value:+.4f}"


def drawing(compared: Sequence[tuple[Compared, str]]) -> str:
    """Each difference with its interval on one scale per line; right of the bar is better."""
    width = max(len(c.name) for c, _ in compared)
    lines = [f"{'':<{width}} {'worse':<{HALF}} {'better':>{HALF}}"]
    lines += [f"{c.name:<{width}} {_drawn(c, metric)}" for c, metric in compared]
    return "```text\n" + "\n".join(lines) + "\n```"


def _drawn(compared: Compared, metric: str) -> str:
    if compared.difference is None or compared.low is None or compared.high is None:
        return "undefined"
    sign = -1 if metric in ERRORS else 1
    ends = sorted((sign * compared.low, sign * compared.high))
    scale = max(abs(ends[0]), abs(ends[1]), 1e-12)
    low, high, middle = (
        HALF + round(x / scale * HALF) for x in (*ends, sign * compared.difference)
    )
    cells = [" "] * (2 * HALF + 1)
    cells[low : high + 1] = "─" * (high - low + 1)
    cells[HALF] = "│"
    cells[middle] = "●"
    return "".join(cells)
