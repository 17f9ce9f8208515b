"""The Markdown that GitHub and Azure DevOps both render: tables, folds, drawn intervals."""

from __future__ import annotations

from collections.abc import Sequence

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


def drawing(compared: Sequence[Compared]) -> str:
    """Each difference with its interval on one scale per line; right of the bar is better."""
    width = max(len(c.name) for c in compared)
    lines = [f"{'':<{width}} {'worse':<{HALF}} {'better':>{HALF}}"]
    lines += [f"{c.name:<{width}} {_interval(c)}" for c in compared]
    return "```text\n" + "\n".join(lines) + "\n```"


def _interval(compared: Compared) -> str:
    if compared.difference is None or compared.worst is None or compared.best is None:
        return "undefined"
    difference = -compared.difference if compared.less_is_better else compared.difference
    scale = max(abs(compared.worst), abs(compared.best), 1e-12)
    low, high, middle = (
        HALF + round(x / scale * HALF) for x in (compared.worst, compared.best, difference)
    )
    cells = [" "] * (2 * HALF + 1)
    cells[low : high + 1] = "─" * (high - low + 1)
    cells[HALF] = "│"
    cells[middle] = "●"
    return "".join(cells)
