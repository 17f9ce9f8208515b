"""The inference table of a Databricks Model Serving endpoint: a Delta table in Unity Catalog.

https://docs.databricks.com/ai-gateway/inference-tables. `monitoring.logs` is
`uc://CATALOG.SCHEMA.TABLE`, or another address of a Delta table. Its records of the last QUARTER
days are read; outcomes that arrive later than that label nothing.
"""

from __future__ import annotations

import datetime as dt
import json
import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from mlops.base.errors import UserError
from mlops.monitoring.answers import FIELDS, KEY, Asked

if TYPE_CHECKING:
    import duckdb

    from mlops.data.sources import Rows

QUARTER = 92
# Records that are taken apart at once: each may have a megabyte.
RECORDS = 256
REQUIRED = (
    "status_code", "request", "response", "databricks_request_id", "request_time", "request_date",
    "served_entity_id",
)  # fmt: skip
OK = 200
Record = Mapping[str, Any]


def source(database: duckdb.DuckDBPyConnection, asked: Asked) -> str:
    """Write the records into the table `recorded`; gives its name."""
    import pyarrow as pa

    from mlops.deploy.databricks import endpoint
    from mlops.deploy.specification import name_of

    batches = _table(asked).batches
    served = endpoint.entity_ids(name_of(asked.pin.digest))
    types = ", ".join(f'"{name}" {kind}' for name, kind in FIELDS.items())
    database.execute(f"CREATE OR REPLACE TABLE recorded ({types})")
    # What is no JSON to DuckDB, such as half a surrogate pair, is none for all others either.
    values = ", ".join(f'try_cast("{name}" AS {kind})' for name, kind in FIELDS.items())
    parts = (batch.slice(first, RECORDS) for batch in batches
             for first in range(0, batch.num_rows, RECORDS))  # fmt: skip
    for part in parts:
        rows = [row for record in part.to_pylist() for row in _rows(record, asked, served)]
        made = pa.table({name: [row.get(name) for row in rows] for name in FIELDS})
        database.register("made", made)
        database.execute(f"INSERT INTO recorded SELECT {values} FROM made")
    return "recorded"


def _table(asked: Asked) -> Rows:
    """The table's newest records; UserError where it is none of inference."""
    from mlops.data.sources import Query, Unreachable, delta

    separator = "." if asked.place.startswith("uc://") else "/"
    location, _, name = asked.place.rpartition(separator)
    place = f"params.yaml: {KEY}"
    if not location:
        expected = "uc://CATALOG.SCHEMA.TABLE or FOLDER/TABLE"
        raise UserError(f"{place}: found {asked.place!r}, expected {expected}")
    try:
        columns = delta.read(location, Query(name)).columns
    except Unreachable as error:
        # The reader is that of raw tables, and names their parameter.
        raise Unreachable(str(error).replace("params.yaml: data.location", place)) from None
    for required in REQUIRED:
        if required not in columns:
            line = f"no column {required}; found {', '.join(columns)}"
            raise UserError(f"{asked.place}: {line}, expected an inference table of Databricks")
    since = asked.now.date() - dt.timedelta(days=QUARTER)
    wanted = (*REQUIRED, "client_request_id")
    return delta.read(location, Query(name, wanted, "request_date", since))


def _rows(record: Record, asked: Asked, served: set[str]) -> Iterator[dict[str, Any]]:
    """A row for each one that was answered; one without inputs for what can't be read."""
    answered_by, moment = record["served_entity_id"], record["request_time"]
    if moment and not moment.tzinfo:
        moment = moment.replace(tzinfo=dt.UTC)
    head = {
        "time": moment and moment.timestamp(),
        "request": record.get("client_request_id") or record["databricks_request_id"],
        # Another bundle's digest is not known here.
        "digest": asked.pin.digest if answered_by in served else answered_by and "another",
        "failed": record["status_code"] != OK,
    }
    if head["failed"]:
        yield head
        return
    try:
        inputs, outputs = _inputs(record["request"]), _outputs(record["response"], asked)
        texts = [[json.dumps(value, allow_nan=False) for value in pair]
                 for pair in zip(inputs, outputs, strict=True)]  # fmt: skip
        if not texts:
            raise ValueError("no rows")
    except (ValueError, TypeError, KeyError, RecursionError, OverflowError):
        yield head
        return
    for row, (values, (sent, scored)) in enumerate(zip(inputs, texts, strict=True)):
        key = values.get(asked.card.key) if asked.card.key else None
        named = None if key is None else str(key).encode(errors="replace").decode()
        yield {**head, "row": row, "key": named, "inputs": sent, "outputs": scored}


def _inputs(text: str) -> list[dict[str, Any]]:
    """The rows of a request's body, in any of MLflow's forms; raises for another."""
    # A number that is none is missing, as to the service.
    body = json.loads(text, parse_constant=lambda _: None)
    if "dataframe_split" in body:
        columns, data = (body["dataframe_split"][key] for key in ("columns", "data"))
        rows = [dict(zip(columns, row, strict=True)) for row in data]
    elif "dataframe_records" in body:
        rows = body["dataframe_records"]
    else:
        rows = body["instances"] if "instances" in body else body["inputs"]
        if isinstance(rows, dict):
            rows = [dict(zip(rows, row, strict=True)) for row in zip(*rows.values(), strict=True)]
    if not all(isinstance(row, dict) for row in rows):
        raise TypeError(text[:80])
    # As the service records them: a tensor of one value is the value.
    return [{key: value[0] if isinstance(value, list) and len(value) == 1 else value
             for key, value in row.items()} for row in rows]  # fmt: skip


def _outputs(text: str, asked: Asked) -> list[dict[str, float]]:
    """The named outputs of each row; raises for what is none of the bundle's."""
    names, rows = asked.card.outputs, json.loads(text)["predictions"]
    if not isinstance(rows, list):
        raise TypeError(text[:80])
    if len(names) == 1:
        rows = [row if isinstance(row, dict) else {names[0]: row} for row in rows]
    found = [{name: float(row[name]) for name in names} for row in rows]
    if not all(math.isfinite(value) for row in found for value in row.values()):
        raise ValueError(text[:80])
    return found
