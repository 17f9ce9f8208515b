"""Where answers are recorded: one file per kind of record, each with `source`.

`source(database, asked)` gives the SQL of a table of DuckDB with the columns FIELDS, a row for each
answered row. A record that can't be read is a row without inputs or outputs; one of a request that
got no answer is `failed`: both are counted, and neither is judged.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mlops.contract import extensions
from mlops.contract.bundle import Card
from mlops.registry.pin import Pin

if TYPE_CHECKING:
    import duckdb

KEY = "monitoring.logs"
FIELDS = {
    "time": "DOUBLE", "request": "VARCHAR", "digest": "VARCHAR", "row": "BIGINT", "key": "VARCHAR",
    "inputs": "JSON", "outputs": "JSON", "failed": "BOOLEAN",
}  # fmt: skip


@dataclass(frozen=True)
class Asked:
    """The answers that are asked for: those recorded at a place, by the bundle of a pin and card.

    `now` is the time of the assessment.
    """

    place: str
    root: Path
    card: Card
    pin: Pin
    now: dt.datetime


Source = Callable[["duckdb.DuckDBPyConnection", Asked], str]


def source(name: str) -> Source:
    """The function of the kind that `monitoring.source` names. Raises UserError for another."""
    module = extensions.resolve("params.yaml: monitoring.source", name, __name__, ("source",))
    function: Source = module.source
    return function
