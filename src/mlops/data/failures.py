"""What is wrong with raw tables, as one table of text."""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import groupby
from typing import Any, NamedTuple

import pandas as pd

EXAMPLES = 3


class Failure(NamedTuple):
    """One check that a table did not pass: `rows` is the number of rows at fault."""

    table: str
    column: str
    check: str
    rows: int
    examples: tuple[str, ...]


def explain(failures: list[Failure]) -> str:
    """All failures as text: one line that sums up, then an aligned table."""
    rows = [
        Failure._fields,
        *(tuple(map(str, (*failure[:-1], ", ".join(failure.examples)))) for failure in failures),
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    # Nothing follows the examples.
    widths[-1] = 0
    lines = ["  ".join(map(str.ljust, row, widths)) for row in rows]
    names = ", ".join(sorted({failure.table for failure in failures}))
    checks = "1 check" if len(failures) == 1 else f"{len(failures)} checks"
    return "\n".join([f"{names}: {checks} failed; nothing was written", *lines])


def examples(values: Any) -> tuple[str, ...]:
    """The first values, in quotes where blanks would not be seen."""
    texts = pd.Series(values).map(str).unique()[:EXAMPLES]
    return tuple(text if text and text == text.strip() else repr(text) for text in texts)


def ranges(names: Iterable[str]) -> list[str]:
    """Names, of which three or more with consecutive numbers are one: `x1 to x9`."""

    def run_of(entry: tuple[int, str]) -> tuple[str, int | None]:
        match = re.fullmatch(r"(.*?)(\d+)", entry[1])
        return (match[1], int(match[2]) - entry[0]) if match else (entry[1], None)

    grouped = groupby(enumerate(map(str, names)), run_of)
    runs = [[name for _, name in run] for _, run in grouped]
    texts = ([f"{run[0]} to {run[-1]}"] if len(run) > 2 else run for run in runs)
    return [text for part in texts for text in part]
