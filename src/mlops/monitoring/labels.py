"""Labels that arrived later, joined to the answers by request and row."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import duckdb

from mlops.base.errors import UserError, nearest, one_line
from mlops.contract.bundle import Card
from mlops.monitoring import logs

KEY = "monitoring.labels"
PATTERNS = ("*.parquet", "*.csv", "*.csv.gz")
REQUEST, ROW = "request", "row"


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
    for number, file in enumerate(logs.files(connection, KEY, place, root, PATTERNS)):
        try:
            _insert(connection, file, number, card)
        except duckdb.Error as error:
            raise UserError(f"{file}: can't be read: {one_line(error)}") from None
    connection.execute(
        "CREATE OR REPLACE TABLE labelled AS SELECT answers.*, l.label FROM answers JOIN"
        " (SELECT request, row, arg_max(label, file) AS label FROM labels GROUP BY ALL) l"
        " USING (request, row)"
    )
    ((newest,),) = connection.execute("SELECT max(time) FROM labelled").fetchall()
    return None if newest is None else datetime.fromtimestamp(newest, UTC)


def _insert(connection: duckdb.DuckDBPyConnection, file: str, number: int, card: Card) -> None:
    reader, options = "read_parquet", ""
    if not file.endswith(".parquet"):
        reader, options = "read_csv", ", header = true, nullstr = ['', 'NA'], sample_size = -1"
    source = f"{reader}({logs.literal(file)}{options}"
    names = connection.sql(f"FROM {source})").columns
    for name in (REQUEST, card.target):
        if name not in names:
            hint = nearest(name, names) or f"; it has {', '.join(names)}"
            raise UserError(f"{file}: no column {name!r}{hint}")
    # A request's id may look like a number, and a class's name like a truth value.
    texts = (REQUEST, card.target) if card.labels else (REQUEST,)
    types = ", ".join(f"{logs.literal(name)}: 'VARCHAR'" for name in texts)
    source += f", types = {{{types}}})" if options else ")"
    row = ROW if ROW in names else "0"
    target = f'"{card.target.replace(chr(34), 2 * chr(34))}"'
    label = f"TRY_CAST({target} AS DOUBLE)"
    valid, expected = f"isfinite({label})", "a number"
    if card.labels:
        # A list's positions begin at 1, and 0 is no class.
        classes = ", ".join(map(logs.literal, card.labels))
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
    connection.execute(
        f"INSERT INTO labels SELECT CAST({REQUEST} AS VARCHAR), CAST({row} AS BIGINT), {label},"
        f" {number} FROM {source} WHERE {target} IS NOT NULL"
    )
