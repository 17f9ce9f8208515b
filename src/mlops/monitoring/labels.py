"""Labels that arrived later, joined to the answers by request and row, or by key."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb

from mlops.base.errors import UserError, nearest, one_line
from mlops.contract.bundle import Card
from mlops.data.streaming import quoted
from mlops.monitoring.files import listed, literal

KEY = "monitoring.labels"
PATTERNS = ("*.parquet", "*.csv", "*.csv.gz")
REQUEST, ROW = "request", "row"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def read(
    connection: duckdb.DuckDBPyConnection, place: str, root: Path, card: Card
) -> datetime | None:
    """Join the table `answers` with the labels of a place into the table `labelled`.

    Columns: those of `answers`, and label. Of two labels for one row the last file's counts; a
    missing label counts as none. Gives the time of the newest labelled answer. Raises UserError for
    a place, file, column or value that is wrong.
    """
    connection.execute(
        "CREATE OR REPLACE TABLE labels (request VARCHAR, row BIGINT, label DOUBLE, file BIGINT)"
    )
    for number, file in enumerate(listed(connection, KEY, place, root, PATTERNS)):
        try:
            _insert(connection, file, number, card)
        except duckdb.Error as error:
            raise UserError(f"{file}: can't be read: {one_line(error)}") from None
    return _join(
        connection,
        "(SELECT request, row, arg_max(label, file) AS label FROM labels GROUP BY ALL) l"
        " USING (request, row)",
    )


def of_keys(connection: duckdb.DuckDBPyConnection, file: Path, card: Card) -> datetime | None:
    """The same with a file of targets by key; of the answers to a key the last one counts.

    A key that was asked often is one row, whose outcome is known once.
    """
    _, source, label, known = _labels(connection, str(file), card.key, card)
    key = quoted(card.key)
    return _join(
        connection,
        f"(SELECT {key} AS key, {label} AS label FROM {source} WHERE {known}) l USING (key) QUALIFY"
        " row_number() OVER (PARTITION BY key ORDER BY time DESC, request DESC, row DESC) = 1",
    )


def _join(connection: duckdb.DuckDBPyConnection, labels: str) -> datetime | None:
    connection.execute(
        f"CREATE OR REPLACE TABLE labelled AS SELECT answers.*, l.label FROM answers JOIN {labels}"
    )
    ((newest,),) = connection.execute("SELECT max(time) FROM labelled").fetchall()
    if newest is None:
        return None
    # Up, never down: the newest answers belong to the window that ends here.
    return EPOCH + timedelta(microseconds=math.ceil(newest * 1e6))


def _insert(connection: duckdb.DuckDBPyConnection, file: str, number: int, card: Card) -> None:
    names, source, label, known = _labels(connection, file, REQUEST, card)
    row = ROW if ROW in names else "0"
    connection.execute(
        f"INSERT INTO labels SELECT CAST({REQUEST} AS VARCHAR), CAST({row} AS BIGINT), {label},"
        f" {number} FROM {source} WHERE {known}"
    )


def _labels(
    connection: duckdb.DuckDBPyConnection, file: str, identity: str, card: Card
) -> tuple[list[str], str, str, str]:
    """A file's columns; and in SQL its rows, their labels as numbers, and whether there is one.

    Raises UserError without the column that says of which row a label is, or for a wrong label.
    """
    reader, options = "read_parquet", ""
    if not file.endswith(".parquet"):
        reader, options = "read_csv", ", header = true, nullstr = ['', 'NA'], sample_size = -1"
    source = f"{reader}({literal(file)}{options}"
    names = connection.sql(f"FROM {source})").columns
    for name in (identity, card.target):
        if name not in names:
            hint = nearest(name, names) or f"; it has {', '.join(names)}"
            raise UserError(f"{file}: no column {name!r}{hint}")
    # A request's id may look like a number, and a class's name like a truth value.
    texts = (identity, card.target) if card.labels else (identity,)
    types = ", ".join(f"{literal(name)}: 'VARCHAR'" for name in texts)
    source += f", types = {{{types}}})" if options else ")"
    target = quoted(card.target)
    label = f"TRY_CAST({target} AS DOUBLE)"
    valid, expected = f"isfinite({label})", "a number"
    if card.labels:
        # A list's positions begin at 1, and 0 is no class.
        classes = ", ".join(map(literal, card.labels))
        label = f"CAST(list_position([{classes}], CAST({target} AS VARCHAR)) - 1 AS DOUBLE)"
        valid, expected = f"{label} >= 0", f"one of {', '.join(card.labels)}"
    elif card.task != "regression":
        last = 1 if card.task == "binary" else card.classes - 1
        valid, expected = f"{label} IN {(*range(last + 1),)}", f"a class from 0 to {last}"
    invalid = connection.execute(
        f"SELECT CAST({target} AS VARCHAR) FROM {source}"
        f" WHERE {target} IS NOT NULL AND NOT coalesce({valid}, false) LIMIT 1"
    ).fetchone()
    if invalid:
        raise UserError(f"{file}: {card.target}: found {invalid[0]!r}, expected {expected}")
    return names, source, label, f"{target} IS NOT NULL"
