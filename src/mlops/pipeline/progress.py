"""A progress bar with the best loss so far; it prints nothing where there is no terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


@contextmanager
def bar(name: str, total: int) -> Iterator[Callable[[dict[str, Any]], None]]:
    """A transient bar on standard error; it advances with each trial's outcome."""
    console = Console(file=sys.stderr)
    best = float("inf")
    with Progress(
        TextColumn("{task.description:<10}"), BarColumn(bar_width=24), MofNCompleteColumn(),
        TextColumn("{task.fields[best]}"), TimeRemainingColumn(),
        console=console, transient=True, disable=not console.is_terminal,
    ) as progress:  # fmt: skip
        task = progress.add_task(name, total=total, best="")

        def advance(outcome: dict[str, Any]) -> None:
            nonlocal best
            # The first look of a trial that was given up is no loss over the folds.
            last = "given up" if outcome["given_up"] else f"{outcome['loss']:.4f}"
            best = best if outcome["given_up"] else min(best, outcome["loss"])
            text = f"best {best:.4f}, last {outcome['family']} {last}"
            progress.update(task, advance=1, best=text)

        yield advance
