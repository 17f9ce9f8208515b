"""The service's samples in a database on disk, so that memory does not grow with them.

Each line is a row that was answered (`mlops.serving.samples`). Inputs become the columns i0, i1,
…, outputs o0, o1, …, in the order of the bundle's card: a column may have any name.
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

KEY = "monitoring.logs"
# Rotated files have a number behind.
PATTERNS = ("predictions-*.jsonl", "predictions-*.jsonl.*")
MEMORY = "1GB"
# A row that a client sent may be as large as the service takes: DuckDB's own limit is below that.
LONGEST = 64 * 1024 * 1024
# A file may be rotated away between being listed and being read.
TRIES = 3
LINES = (
    "read_json([{files}], format = 'newline_delimited', ignore_errors = true,"
    " maximum_object_size = {longest}, columns = "
    """{{"time": 'DOUBLE', request: 'VARCHAR', digest: 'VARCHAR', "row": 'BIGINT', """
    "inputs: 'JSON', outputs: 'JSON'}})"
)


@dataclass(frozen=True)
class Lines:
    """How many lines are the judged bundle's, another's, from the future, and not to be read."""

    judged: int = 0
    other: int = 0
    future: int = 0
    broken: int = 0

    @property
    def notes(self) -> tuple[str, ...]:
        """What whoever reads the judgement should know of the lines left out."""
        said = {
            "rows answered by other bundles": self.other,
            "rows from the future, so a clock is wrong": self.future,
            "lines that can't be read": self.broken,
        }
        return tuple(f"not judged: {count:,} {what}" for what, count in said.items() if count)


@contextmanager
def database() -> Iterator[duckdb.DuckDBPyConnection]:
    """An empty database in a temporary folder, gone when the block ends."""
    with tempfile.TemporaryDirectory(prefix="monitoring-") as folder:
        settings: dict[str, str | bool | int | float | list[str]] = {
            "memory_limit": MEMORY,
            "temp_directory": folder,
            # Nothing is fetched from the network that was not asked for.
            "autoinstall_known_extensions": False,
        }
        with duckdb.connect(str(Path(folder) / "answers.db"), config=settings) as connection:
            connection.execute("SET preserve_insertion_order = false")
            yield connection


def read(
    connection: duckdb.DuckDBPyConnection,
    place: str,
    root: Path,
    judged: tuple[Card, str],
    now: datetime,
) -> Lines:
    """Read what the bundle (its card and digest) answered up to `now` into the table `answers`.

    Columns: time (seconds since 1970), request, row, i0…, o0…; a missing value is NULL. What is
    not a line of samples is counted: the last line may be half written. Raises UserError when
    there is no such place.
    """
    for attempt in range(TRIES):
        try:
            _load(connection, places.files(connection, KEY, place, root, PATTERNS), judged)
            break
        except duckdb.Error as error:
            if attempt == TRIES - 1 or not isinstance(error, duckdb.IOException):
                raise UserError(f"{place}: can't be read: {places.one_line(error)}") from None
    counts = connection.execute(
        "SELECT kind, count(*) FROM (SELECT CASE WHEN kind = 'judged' AND time > $1 THEN 'future'"
        " ELSE kind END AS kind FROM lines) GROUP BY kind",
        [now.timestamp()],
    ).fetchall()
    connection.execute(
        "CREATE VIEW answers AS SELECT * FROM lines"
        f" WHERE kind = 'judged' AND time <= {now.timestamp()!r}"
    )
    return Lines(**dict(counts))


def _load(
    connection: duckdb.DuckDBPyConnection, files: list[str], judged: tuple[Card, str]
) -> None:
    card, digest = judged
    listed = ", ".join(places.text(file) for file in files)
    source = LINES.format(files=listed, longest=LONGEST) if files else _nothing()
    inputs = {put.name: "FLOAT" if put.type == "float" else "VARCHAR" for put in card.inputs}
    outputs = dict.fromkeys(card.outputs, "DOUBLE")
    # Only the judged bundle's lines are taken apart: another may have columns of other types.
    connection.execute(
        "CREATE OR REPLACE TABLE lines AS"
        f" WITH raw AS (SELECT *, {_kind(digest)} AS kind FROM {source}),"
        ' parts AS (SELECT "time" AS time, request, coalesce("row", 0) AS row, kind,'
        f" {_parsed('inputs', inputs)} AS i, {_parsed('outputs', outputs)} AS o FROM raw)"
        f" SELECT time, request, row, kind, {_columns(card)} FROM parts"
    )


def _kind(digest: str) -> str:
    whole = (
        '"time" IS NOT NULL AND isfinite("time") AND digest IS NOT NULL'
        " AND json_type(inputs) = 'OBJECT' AND json_type(outputs) = 'OBJECT'"
    )
    return (
        f"CASE WHEN NOT coalesce({whole}, false) THEN 'broken'"
        f" WHEN digest = {places.text(digest)} THEN 'judged' ELSE 'other' END"
    )


def _parsed(column: str, types: dict[str, str]) -> str:
    return (
        f"from_json(CASE WHEN kind = 'judged' THEN {column} END, {places.text(json.dumps(types))})"
    )


def _columns(card: Card) -> str:
    # The service writes a missing category as an empty word.
    inputs = [
        f"nullif(i[{places.text(put.name)}], '') AS i{index}" if put.type == "string"
        else f"CASE WHEN isfinite(i[{places.text(put.name)}]) THEN i[{places.text(put.name)}] END"
             f" AS i{index}"
        for index, put in enumerate(card.inputs)
    ]  # fmt: skip
    outputs = [f"o[{places.text(name)}] AS o{i}" for i, name in enumerate(card.outputs)]
    return ", ".join([*inputs, *outputs])


def _nothing() -> str:
    return (
        '(SELECT NULL::DOUBLE AS "time", NULL::VARCHAR AS request, NULL::VARCHAR AS digest,'
        ' NULL::BIGINT AS "row", NULL::JSON AS inputs, NULL::JSON AS outputs LIMIT 0)'
    )
