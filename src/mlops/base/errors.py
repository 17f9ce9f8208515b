"""The kinds of errors, and the exit code of each."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

MENDABLE = 2
REFUSED = 1
BUG = 70
LONGEST_REASON = 300


class UserError(Exception):
    """Something the user can fix: one line with the place, what was found, what was expected."""

    exit_code = MENDABLE


class Refused(Exception):
    """The gate refused."""

    exit_code = REFUSED


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint such as `; did you mean 'seed'?`, or nothing when no known name is close."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"; did you mean {close[0]!r}?" if close else ""


def listed(names: Sequence[str], most: int = 5) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def one_line(text: object) -> str:
    """What another program says, in one line and cut; an error that says nothing by its class."""
    line = " ".join(str(text).split())[:LONGEST_REASON]
    return line or (type(text).__name__ if isinstance(text, Exception) else "")
