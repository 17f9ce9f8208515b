"""The service's prediction logs, loaded into a DuckDB database on disk to bound the memory.

Each line is one answered row (`mlops.serving.samples`). Inputs become the columns i0, i1, …,
outputs o0, o1, …, in the order of the bundle's card: a column may have any name.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import duckdb

from mlops.base.errors import UserError
from mlops.contract.bundle import Card
from mlops.monitoring import places
from mlops.monitoring.places import literal

KEY = "monitoring.logs"
# The second pattern matches rotated files, which end in a number.
PATTERNS = ("predictions-*.jsonl", "predictions-*.jsonl.*")
MEMORY = "1GB"
# The service accepts rows that are longer than DuckDB's own limit for one line.
LONGEST = 64 * 1024 * 1024
# A file may be rotated away between being listed and being read.
TRIES = 3
FIELDS = {
    "time": "DOUBLE", "request": "VARCHAR", "digest": "VARCHAR", "row": "BIGINT",
    "inputs": "JSON", "outputs": "JSON",
}  # fmt: skip


@dataclass(frozen=True)
class LineCounts:
    """Lines of the judged bundle, of other bundles, from the future, and unreadable ones."""

    judged: int = 0
    other: int = 0
    future: int = 0
    broken: int = 0

    @property
    def notes(self) -> tuple[str, ...]:
        """What was left out, a note for each kind."""
        left_out = {
            "rows answered by other bundles": self.other,
            "rows from the future, so a clock is wrong": self.future,
            "lines that can't be read": self.broken,
        }
        return tuple(f"not judged: {count:,} {what}" for what, count in left_out.items() if count)


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
) -> LineCounts:
    """Load the answers of a bundle (its card and digest) up to `now` into the view `answers`.

    Columns: time (seconds since 1970), request, row, i0…, o0…; a missing value is NULL. Lines that
    can't be parsed are counted: the last one may be half written. Raises UserError when there is
    no such place.
    """
    for attempt in range(TRIES):
        try:
            _load(connection, places.files(connection, KEY, place, root, PATTERNS), judged)
            break
        except duckdb.Error as error:
            if attempt == TRIES - 1 or not isinstance(error, duckdb.IOException):
                raise UserError(f"{place}: can't be read: {places.one_line(error)}") from None
    counts = connection.execute(
        "SELECT CASE WHEN kind = 'judged' AND time > $1 THEN 'future' ELSE kind END AS label,"
        " count(*) FROM lines GROUP BY label",
        [now.timestamp()],
    ).fetchall()
    connection.execute(
        "CREATE VIEW answers AS SELECT * FROM lines"
        f" WHERE kind = 'judged' AND time <= {now.timestamp()!r}"
    )
    return LineCounts(**dict(counts))


def _load(
    connection: duckdb.DuckDBPyConnection, files: list[str], judged: tuple[Card, str]
) -> None:
    card, digest = judged
    inputs = {i.name: "FLOAT" if i.type == "float" else "VARCHAR" for i in card.inputs}
    outputs = dict.fromkeys(card.outputs, "DOUBLE")
    # Only the judged bundle's values are parsed: another bundle may have columns of other types.
    connection.execute(
        "CREATE OR REPLACE TABLE lines AS"
        f" WITH raw AS (SELECT *, {_kind(digest)} AS kind FROM {_source(files)}),"
        ' parts AS (SELECT "time" AS time, request, coalesce("row", 0) AS row, kind,'
        f" {_parsed('inputs', inputs)} AS i, {_parsed('outputs', outputs)} AS o FROM raw)"
        f" SELECT time, request, row, kind, {_columns(card)} FROM parts"
    )


def _source(files: list[str]) -> str:
    if not files:
        columns = ", ".join(f'NULL::{kind} AS "{name}"' for name, kind in FIELDS.items())
        return f"(SELECT {columns} LIMIT 0)"
    return (
        f"read_json([{', '.join(map(literal, files))}], format = 'newline_delimited',"
        f" ignore_errors = true, maximum_object_size = {LONGEST}, columns = {FIELDS})"
    )


def _kind(digest: str) -> str:
    valid = (
        '"time" IS NOT NULL AND isfinite("time") AND digest IS NOT NULL'
        " AND json_type(inputs) = 'OBJECT' AND json_type(outputs) = 'OBJECT'"
    )
    return (
        f"CASE WHEN NOT coalesce({valid}, false) THEN 'broken'"
        f" WHEN digest = {literal(digest)} THEN 'judged' ELSE 'other' END"
    )


def _parsed(column: str, types: dict[str, str]) -> str:
    return f"from_json(CASE WHEN kind = 'judged' THEN {column} END, {literal(json.dumps(types))})"


def _columns(card: Card) -> str:
    columns = []
    for index, feature in enumerate(card.inputs):
        value = f"i[{literal(feature.name)}]"
        # The service writes a missing category as an empty string.
        present = f"nullif({value}, '')" if feature.type == "string" else (
            f"CASE WHEN isfinite({value}) THEN {value} END"
        )  # fmt: skip
        columns.append(f"{present} AS i{index}")
    columns += [f"o[{literal(name)}] AS o{index}" for index, name in enumerate(card.outputs)]
    return ", ".join(columns)
