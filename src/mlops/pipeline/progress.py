"""A progress bar with the best loss so far; it prints nothing where there is no terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


class Bar:
    """One bar that ends when its trials do."""

    def __init__(self, progress: Progress, name: str, total: int) -> None:
        self._progress = progress
        self._task = progress.add_task(name, total=total, best="")
        self._best = float("inf")

    def advance(self, outcome: dict[str, Any]) -> None:
        """One trial ended."""
        self._best = min(self._best, outcome["loss"])
        best = f"best {self._best:.4f}, last {outcome['family']} {outcome['loss']:.4f}"
        self._progress.update(self._task, advance=1, best=best)


@contextmanager
def bar(name: str, total: int) -> Iterator[Bar]:
    """A transient bar on standard error."""
    columns = (
        TextColumn("{task.description:<10}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("{task.fields[best]}"),
        TimeRemainingColumn(),
    )
    console = Console(file=sys.stderr)
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as progress:
        yield Bar(progress, name, total)
