"""Cells of CSV, as text: which are numbers, and which are missing, in a request as in a table."""

from __future__ import annotations

import re

# As in the tables that are trained on; a category that training saw is not missing, whatever its
# name.
MISSING = ("", "NA")
# In the syntax that Python's `re` and Arrow's RE2 have in common.
NUMBER = r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?|[nN][aA][nN]|[+-]?[iI][nN][fF]"
_NUMBER = re.compile(NUMBER)


def number(cell: str) -> float | None:
    """A cell's number without blanks around it, None where missing; ValueError for what is none."""
    cell = cell.strip(" ")
    if cell in MISSING:
        return None
    if not _NUMBER.fullmatch(cell):
        raise ValueError(cell)
    return float(cell)
