"""The samples of this project's own service: lines of JSON in files (`mlops.serving.samples`)."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from mlops.monitoring.answers import FIELDS, KEY, Asked
from mlops.monitoring.files import listed, literal

if TYPE_CHECKING:
    import duckdb

# The second pattern matches rotated files, which end in a number.
PATTERNS = ("predictions-*.jsonl", "predictions-*.jsonl.*")
# The service accepts rows that are longer than DuckDB's own limit for one line.
LONGEST = 64 * 1024 * 1024


def source(database: duckdb.DuckDBPyConnection, asked: Asked) -> str:
    """The lines of a folder's files, or of those below an fsspec URL; FIELDS are their names."""
    paths = listed(database, KEY, asked.place, asked.root, PATTERNS)
    # Without files an empty one gives the same columns.
    names = ", ".join(map(literal, paths or [os.devnull]))
    return (
        f"read_json([{names}], format = 'newline_delimited', ignore_errors = true,"
        f" maximum_object_size = {LONGEST}, columns = {FIELDS})"
    )
