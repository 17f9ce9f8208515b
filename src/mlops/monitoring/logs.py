"""Recorded answers, loaded into a DuckDB database on disk to bound the memory.

Each line is one answered row. Inputs become the columns i0, i1, …, outputs o0, o1, …, in the order
of the bundle's card: a column may have any name.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb

from mlops.base.errors import UserError, one_line
from mlops.monitoring import answers
from mlops.monitoring.answers import Asked
from mlops.monitoring.files import literal

if TYPE_CHECKING:
    import pandas as pd

MEMORY = "1GB"
# Rows that a window's drift and metrics are measured on: more would hardly narrow an interval.
SAMPLE = 20_000
# A file may be rotated away between being listed and being read.
TRIES = 3

# Kinds of lines besides those that are judged, and what a note says of them.
LEFT_OUT = {
    "other": "rows answered by other bundles",
    "future": "rows from the future, so a clock is wrong",
    "failed": "requests that were refused or failed",
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


def read(connection: duckdb.DuckDBPyConnection, kind: str, asked: Asked) -> dict[str, int]:
    """Load the answers that are asked for, as `monitoring.source` records them, into `answers`.

    Gives the number of lines by kind: judged, and those of LEFT_OUT.

    Columns: time (seconds since 1970), request, row, key, i0…, o0…; a missing value is NULL. Lines
    that can't be parsed are counted: the last one may be half written. Raises UserError when there
    is no such place.
    """
    for attempt in range(TRIES):
        try:
            _load(connection, answers.source(kind)(connection, asked), asked)
            break
        except duckdb.Error as error:
            if attempt == TRIES - 1 or not isinstance(error, duckdb.IOException):
                raise UserError(f"{asked.place}: can't be read: {one_line(error)}") from None
    counts = connection.execute(
        "SELECT CASE WHEN kind = 'judged' AND time > $1 THEN 'future' ELSE kind END AS label,"
        " count(*) FROM lines GROUP BY label",
        [asked.now.timestamp()],
    ).fetchall()
    connection.execute(
        "CREATE VIEW answers AS SELECT * FROM lines"
        f" WHERE kind = 'judged' AND time <= {asked.now.timestamp()!r}"
    )
    return dict.fromkeys(("judged", *LEFT_OUT), 0) | dict(counts)


def left_out(counts: Mapping[str, int]) -> list[str]:
    """A note for each kind of lines that was not judged."""
    return [f"not judged: {counts[k]:,} {what}" for k, what in LEFT_OUT.items() if counts[k]]


def sample(
    connection: duckdb.DuckDBPyConnection, columns: Iterable[str], table: str, where: str
) -> pd.DataFrame:
    """Sample rows evenly, the same ones at every run, whatever the order they were read in."""
    return connection.execute(
        f"SELECT {', '.join(columns)} FROM {table} WHERE {where}"
        f" ORDER BY hash(time, request, row), time, request, row LIMIT {SAMPLE}"
    ).df()


def _load(connection: duckdb.DuckDBPyConnection, source: str, asked: Asked) -> None:
    card = asked.card
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
        "CREATE OR REPLACE TABLE lines AS WITH raw AS (SELECT *, CASE WHEN failed THEN 'failed'"
        " WHEN NOT coalesce("
        '"time" IS NOT NULL AND isfinite("time") AND digest IS NOT NULL'
        " AND json_type(inputs) = 'OBJECT' AND json_type(outputs) = 'OBJECT', false) THEN 'broken'"
        f" WHEN digest = {literal(asked.pin.digest)} THEN 'judged' ELSE 'other' END AS kind"
        f" FROM {source}),"
        ' parts AS (SELECT "time" AS time, request, coalesce("row", 0) AS row, "key", kind,'
        f" {parsed.format('inputs', literal(json.dumps(inputs)))} AS i,"
        f" {parsed.format('outputs', literal(json.dumps(outputs)))} AS o FROM raw)"
        f" SELECT time, request, row, key, kind, {', '.join(columns)} FROM parts"
    )
