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
    """A table with its heads; a bar or a line break stays in its cell."""
    lines = [" | ".join(line) for line in (head, ["---"] * len(head))]
    lines += [" | ".join(c.replace("|", "\\|").replace("\n", " ") for c in row) for row in rows]
    return "\n".join(f"| {line} |" for line in lines)


def drawing(compared: Sequence[Compared]) -> str:
    """Each difference with its interval on one scale per line; right of the bar is better."""
    width = max(len(c.name) for c in compared)
    lines = [f"{'':<{width}} {'worse':<{HALF}} {'better':>{HALF}}"]
    lines += [f"{c.name:<{width}} {_interval(c)}" for c in compared]
    return "```text\n" + "\n".join(lines) + "\n```"


def _interval(compared: Compared) -> str:
    difference = compared.gain(compared.difference)
    if difference is None or compared.worst is None or compared.best is None:
        return "undefined"
    scale = max(abs(compared.worst), abs(compared.best), 1e-12)
    low, high, middle = (
        HALF + round(x / scale * HALF) for x in (compared.worst, compared.best, difference)
    )
    cells = [" "] * (2 * HALF + 1)
    cells[low : high + 1] = "─" * (high - low + 1)
    cells[HALF] = "│"
    cells[middle] = "●"
    return "".join(cells)
