"""The service's prediction logs, loaded into a DuckDB database on disk to bound the memory.

Each line is one answered row (`mlops.serving.samples`). Inputs become the columns i0, i1, …,
outputs o0, o1, …, in the order of the bundle's card: a column may have any name.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb

from mlops.base.errors import UserError, one_line
from mlops.contract.bundle import Card

if TYPE_CHECKING:
    import pandas as pd

KEY = "monitoring.logs"
# The second pattern matches rotated files, which end in a number.
PATTERNS = ("predictions-*.jsonl", "predictions-*.jsonl.*")
MEMORY = "1GB"
# Rows that a window's drift and metrics are measured on: more would hardly narrow an interval.
SAMPLE = 20_000
# The service accepts rows that are longer than DuckDB's own limit for one line.
LONGEST = 64 * 1024 * 1024
# A file may be rotated away between being listed and being read.
TRIES = 3
FIELDS = {
    "time": "DOUBLE", "request": "VARCHAR", "digest": "VARCHAR", "row": "BIGINT",
    "key": "VARCHAR", "inputs": "JSON", "outputs": "JSON",
}  # fmt: skip


# Kinds of lines besides those that are judged, and what a note says of them.
LEFT_OUT = {
    "other": "rows answered by other bundles",
    "future": "rows from the future, so a clock is wrong",
    "broken": "lines that can't be read",
}


@contextmanager
def database() -> Iterator[duckdb.DuckDBPyConnection]:
    """An empty database in a temporary folder, deleted when the block ends."""
    with tempfile.TemporaryDirectory(prefix="monitoring-") as folder:
        settings: dict[str, str | bool | int | float | list[str]] = {
            "memory_limit": MEMORY,
            "temp_directory": folder,
            # Never download an extension.
            "autoinstall_known_extensions": False,
            "preserve_insertion_order": False,
        }
        with duckdb.connect(str(Path(folder) / "answers.db"), config=settings) as connection:
            yield connection


def read(
    connection: duckdb.DuckDBPyConnection,
    place: str,
    root: Path,
    judged: tuple[Card, str],
    now: datetime,
) -> dict[str, int]:
    """Load the answers of a bundle (its card and digest) up to `now` into the view `answers`.

    Gives the number of lines by kind: judged, and those of LEFT_OUT.

    Columns: time (seconds since 1970), request, row, key, i0…, o0…; a missing value is NULL. Lines
    that can't be parsed are counted: the last one may be half written. Raises UserError when there
    is no such place.
    """
    for attempt in range(TRIES):
        try:
            _load(connection, files(connection, KEY, place, root, PATTERNS), judged)
            break
        except duckdb.Error as error:
            if attempt == TRIES - 1 or not isinstance(error, duckdb.IOException):
                raise UserError(f"{place}: can't be read: {one_line(error)}") from None
    counts = connection.execute(
        "SELECT CASE WHEN kind = 'judged' AND time > $1 THEN 'future' ELSE kind END AS label,"
        " count(*) FROM lines GROUP BY label",
        [now.timestamp()],
    ).fetchall()
    connection.execute(
        "CREATE VIEW answers AS SELECT * FROM lines"
        f" WHERE kind = 'judged' AND time <= {now.timestamp()!r}"
    )
    return dict.fromkeys(("judged", *LEFT_OUT), 0) | dict(counts)


def left_out(counts: Mapping[str, int]) -> list[str]:
    """A note for each kind of lines that was not judged."""
    return [f"not judged: {counts[k]:,} {what}" for k, what in LEFT_OUT.items() if counts[k]]


def files(
    database: duckdb.DuckDBPyConnection, key: str, place: str, root: Path, patterns: Sequence[str]
) -> list[str]:
    """The files in a folder or below an fsspec URL that match; UserError names the key."""
    import fsspec

    remote = "://" in place
    try:
        system, path = fsspec.url_to_fs(place if remote else str(root / place))
        if not system.exists(path):
            raise UserError(f"params.yaml: {key}: found {place!r}, no such folder")
        paths = sorted({str(f) for p in patterns for f in system.glob(f"{path}/**/{p}")})
    except (OSError, ValueError, ImportError) as error:
        raise UserError(f"params.yaml: {key}: {place}: {one_line(error)}") from None
    if not remote:
        return paths
    if not database.filesystem_is_registered(place.split("://")[0]):
        database.register_filesystem(system)
    return [str(system.unstrip_protocol(file)) for file in paths]


def sample(
    connection: duckdb.DuckDBPyConnection, columns: Iterable[str], table: str, where: str
) -> pd.DataFrame:
    """Sample rows evenly, the same ones at every run, whatever the order they were read in."""
    return connection.execute(
        f"SELECT {', '.join(columns)} FROM {table} WHERE {where}"
        f" ORDER BY hash(time, request, row), time, request, row LIMIT {SAMPLE}"
    ).df()


def literal(value: str) -> str:
    """A string as an SQL literal."""
    return "'" + value.replace("'", "''") + "'"


def _load(
    connection: duckdb.DuckDBPyConnection, paths: list[str], judged: tuple[Card, str]
) -> None:
    card, digest = judged
    # Without files an empty one gives the same columns.
    listed = ", ".join(map(literal, paths or [os.devnull]))
    source = (
        f"read_json([{listed}], format = 'newline_delimited', ignore_errors = true,"
        f" maximum_object_size = {LONGEST}, columns = {FIELDS})"
    )
    inputs = {i.name: "FLOAT" if i.type == "float" else "VARCHAR" for i in card.inputs}
    outputs = dict.fromkeys(card.outputs, "DOUBLE")
    columns = []
    for index, feature in enumerate(card.inputs):
        value = f"i[{literal(feature.name)}]"
        finite = f"CASE WHEN isfinite({value}) THEN {value} END"
        # The service writes a missing category as an empty string.
        present = f"nullif({value}, '')" if feature.type == "string" else finite
        columns.append(f"{present} AS i{index}")
    columns += [f"o[{literal(name)}] AS o{index}" for index, name in enumerate(card.outputs)]
    # Only the judged bundle's values are parsed: another bundle may have columns of other types.
    parsed = "from_json(CASE WHEN kind = 'judged' THEN {} END, {})"
    connection.execute(
        "CREATE OR REPLACE TABLE lines AS WITH raw AS (SELECT *, CASE WHEN NOT coalesce("
        '"time" IS NOT NULL AND isfinite("time") AND digest IS NOT NULL'
        " AND json_type(inputs) = 'OBJECT' AND json_type(outputs) = 'OBJECT', false) THEN 'broken'"
        f" WHEN digest = {literal(digest)} THEN 'judged' ELSE 'other' END AS kind FROM {source}),"
        ' parts AS (SELECT "time" AS time, request, coalesce("row", 0) AS row, "key", kind,'
        f" {parsed.format('inputs', literal(json.dumps(inputs)))} AS i,"
        f" {parsed.format('outputs', literal(json.dumps(outputs)))} AS o FROM raw)"
        f" SELECT time, request, row, key, kind, {', '.join(columns)} FROM parts"
    )
