"""What came true, by the request that was asked and its row."""

from __future__ import annotations

from pathlib import Path

import duckdb

from mlops.base.errors import UserError, nearest
from mlops.contract.bundle import Card
from mlops.monitoring import places

KEY = "monitoring.labels"
PATTERNS = ("*.parquet", "*.csv", "*.csv.gz")
REQUEST, ROW = "request", "row"


def read(connection: duckdb.DuckDBPyConnection, place: str, root: Path, card: Card) -> None:
    """Join the table `answers` with the labels of a place into the table `labelled`.

    Columns: those of `answers`, and label. Of labels for one row the last file's counts; a label
    that is missing is none. Raises UserError for a place, file, column or value that is wrong.
    """
    connection.execute(
        "CREATE OR REPLACE TABLE labels (request VARCHAR, row BIGINT, label DOUBLE, file BIGINT)"
    )
    for number, file in enumerate(places.files(connection, KEY, place, root, PATTERNS)):
        try:
            _add(connection, file, number, card)
        except duckdb.Error as error:
            raise UserError(f"{file}: can't be read: {places.one_line(error)}") from None
    connection.execute(
        "CREATE OR REPLACE TABLE labelled AS SELECT answers.*, l.label FROM answers JOIN"
        " (SELECT request, row, arg_max(label, file) AS label FROM labels GROUP BY ALL) l"
        " ON answers.request = l.request AND answers.row = l.row"
    )


def _add(connection: duckdb.DuckDBPyConnection, file: str, number: int, card: Card) -> None:
    source = _source(file)
    row = ROW if ROW in _columns(connection, source, file, card) else "0"
    target = f'"{card.target.replace(chr(34), 2 * chr(34))}"'
    label = f"TRY_CAST({target} AS DOUBLE)"
    wrong = connection.execute(
        f"SELECT CAST({target} AS VARCHAR) FROM {source}"
        f" WHERE {target} IS NOT NULL AND NOT coalesce({_right(label, card)}, false) LIMIT 1"
    ).fetchone()
    if wrong:
        raise UserError(f"{file}: {card.target}: found {wrong[0]!r}, expected {_expected(card)}")
    connection.execute(
        f"INSERT INTO labels SELECT CAST({REQUEST} AS VARCHAR), CAST({row} AS BIGINT), {label},"
        f" {number} FROM {source} WHERE {target} IS NOT NULL"
    )


def _source(file: str) -> str:
    if file.endswith(".parquet"):
        return f"read_parquet({places.text(file)})"
    # A request's id may look like a number.
    types = f"{{'{REQUEST}': 'VARCHAR'}}"
    options = "header = true, nullstr = ['', 'NA'], sample_size = -1"
    return f"read_csv({places.text(file)}, {options}, types = {types})"


def _columns(
    connection: duckdb.DuckDBPyConnection, source: str, file: str, card: Card
) -> list[str]:
    try:
        found = connection.execute(f"DESCRIBE SELECT * FROM {source}").fetchall()
    except duckdb.BinderException as error:
        # DuckDB's word for a CSV file without the column whose type was said.
        raise UserError(f"{file}: no column {REQUEST!r}: {places.one_line(error)}") from None
    names = [str(name) for name, *_ in found]
    for name in (REQUEST, card.target):
        if name not in names:
            hint = nearest(name, names) or f"; it has {', '.join(names)}"
            raise UserError(f"{file}: no column {name!r}{hint}")
    return names


def _right(label: str, card: Card) -> str:
    if card.task == "regression":
        return f"isfinite({label})"
    return f"{label} IN ({', '.join(str(i) for i in range(_classes(card)))})"


def _classes(card: Card) -> int:
    return 2 if card.task == "binary" else card.classes


def _expected(card: Card) -> str:
    if card.task == "regression":
        return "a number"
    return f"a class from 0 to {_classes(card) - 1}"
