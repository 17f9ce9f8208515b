"""A day of predictions is replaced whole, by each kind of sink, and no other day is touched."""

import datetime as dt
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable
from pyarrow import csv

from mlops.base import processes
from mlops.base.errors import UserError
from mlops.data import engine
from mlops.data.sinks import sink
from mlops.data.sources import Query, sql
from mlops.data.sources.database import database
from tests.stack.servers import running

LOGIN = "u:swordfish"
FIRST, SECOND = dt.date(2020, 1, 1), dt.date(2020, 1, 2)
SCHEMA = pa.schema(
    [("key", pa.string()), ("day", pa.date32()), ("p", pa.float64()), ("at", pa.timestamp("us"))]
)
WRITE = """
import datetime as dt, sys
from mlops.data.sinks import sink
from tests.mlops.data.sinks.test_sinks import FIRST, rows
sink(sys.argv[1])(sys.argv[2], "late", FIRST, rows(FIRST, [2.0] * 1_000_000))
"""


def rows(day, values, days=None):
    columns = {
        "key": [f"k{n}" for n in range(len(values))], "day": days or [day] * len(values),
        "p": values, "at": [dt.datetime(2020, 1, 3)] * len(values),
    }  # fmt: skip
    return pa.Table.from_pydict(columns, SCHEMA).to_reader()


@dataclass
class Store:
    """A sink with a place to write to, what is there, and whether a write is under way."""

    name: str
    location: str
    read: Any
    writing: Any = None

    def replace(self, day, batches):
        sink(self.name)(self.location, "late", day, batches)

    def content(self):
        """How many rows there are of each day and value."""
        return Counter((str(row["day"]), row["p"]) for row in self.read())


@pytest.fixture(scope="module")
def postgres():
    with running("postgres") as servers:
        yield servers


@pytest.fixture(
    params=[
        "files", "csv", "delta",
        pytest.param("sql", marks=[pytest.mark.nightly, pytest.mark.slow]),
        pytest.param("spark", marks=[pytest.mark.nightly, pytest.mark.slow, pytest.mark.spark]),
    ]
)  # fmt: skip
def store(request, tmp_path, monkeypatch):
    name, table = request.param, tmp_path / "late"
    if name == "delta":
        read = lambda: pa.table(DeltaTable(table).scan()).to_pylist()  # noqa: E731
        yield Store(name, str(tmp_path), read, lambda: len([*table.rglob("*.parquet")]) > 1)
    elif name == "sql":
        servers = request.getfixturevalue("postgres")
        servers.query("DROP TABLE IF EXISTS late")
        monkeypatch.setenv("WAREHOUSE", servers.database("postgres"))
        yield Store(name, "WAREHOUSE", in_postgresql, copies)
    elif name == "spark":
        session = engine.start("spark")
        session.sql(f"CREATE DATABASE sink LOCATION '{tmp_path}'")
        yield Store(name, "sink", lambda: session.table("sink.late").toArrow().to_pylist())
        session.sql("DROP DATABASE sink CASCADE")
    else:
        partial = lambda: any(path.stat().st_size for path in table.rglob(".part.*"))  # noqa: E731
        yield Store(name, str(tmp_path), lambda: in_files(table), partial)


def in_postgresql():
    batches = sql.read("WAREHOUSE", Query("late")).batches
    return [row for batch in batches for row in batch.to_pylist()]


def in_files(table):
    reads = {".parquet": pq.ParquetFile, ".csv": csv.read_csv}
    for path in table.rglob("part.*"):
        read = reads[path.suffix](path)
        part = read.read() if path.suffix == ".parquet" else read
        assert part.column_names == ["key", "p", "at"]
        day = path.parent.name.removeprefix("day=")
        yield from ({**row, "day": day} for row in part.to_pylist())


def copies():
    """Whether PostgreSQL copies rows into a table now."""
    statement = (
        "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'COPY %STDIN%' AND state = 'active'"
    )
    with database("WAREHOUSE").reading() as connection, connection.cursor() as cursor:
        cursor.execute(statement)
        return cursor.fetchone()[0] > 0


def test_a_day_is_replaced_as_often_as_it_is_written_and_no_other(store):
    store.replace(FIRST, rows(FIRST, [1.0, 1.0]))
    store.replace(SECOND, rows(SECOND, [3.0]))
    assert store.content() == {(str(FIRST), 1.0): 2, (str(SECOND), 3.0): 1}
    for _ in range(2):
        store.replace(FIRST, rows(FIRST, [2.0]))
        assert store.content() == {(str(FIRST), 2.0): 1, (str(SECOND), 3.0): 1}
    store.replace(FIRST, rows(FIRST, []))
    assert store.content() == {(str(SECOND), 3.0): 1}


def test_rows_that_can_not_be_made_or_are_of_another_day_change_nothing(store):
    store.replace(FIRST, rows(FIRST, [1.0]))

    def failing():
        yield from rows(FIRST, [2.0])
        raise UserError("the model has no column 'x'")

    with pytest.raises(UserError, match="^the model has no column 'x'$"):
        store.replace(FIRST, pa.RecordBatchReader.from_batches(SCHEMA, failing()))
    with pytest.raises(ValueError, match="expected rows of 2020-01-01 alone"):
        store.replace(FIRST, rows(FIRST, [2.0, 2.0], [FIRST, SECOND]))
    assert store.content() == {(str(FIRST), 1.0): 1}


def test_of_two_writes_at_once_one_is_there_whole(store):
    if store.name == "spark":
        pytest.skip("only Delta tables of Spark have commits, and its jars are not here")
    store.replace(FIRST, rows(FIRST, [1.0]))

    def write(value):
        try:
            return store.replace(FIRST, rows(FIRST, [value] * 200_000))
        except UserError as error:
            return str(error)

    with ThreadPoolExecutor(2) as pool:
        refused = [line for line in pool.map(write, (2.0, 3.0)) if line]
    assert len(refused) < 2
    assert all(len(line.splitlines()) == 1 for line in refused)
    ((day, value),) = store.content()
    assert (day, store.content()[day, value]) == (str(FIRST), 200_000)
    assert value in (2.0, 3.0)


@pytest.mark.nightly
@pytest.mark.slow
def test_a_writer_that_is_killed_leaves_the_day_whole(store):
    if not store.writing:
        pytest.skip("files of other Spark tables than Delta's are moved one by one")
    store.replace(FIRST, rows(FIRST, [1.0] * 5))
    command = [sys.executable, "-c", WRITE, store.name, store.location]
    # A fast machine may have written before anybody looks.
    for _ in range(10):
        store.replace(FIRST, rows(FIRST, [1.0] * 5))
        writer = subprocess.Popen(command, cwd=Path(__file__).parents[4])
        if is_writing := processes.wait(store.writing, lambda p=writer: p.poll() is None, 100):
            break
        writer.wait()
    assert is_writing
    writer.kill()
    writer.wait()
    assert store.content() in ({(str(FIRST), 1.0): 5}, {(str(FIRST), 2.0): 1_000_000})
    store.replace(FIRST, rows(FIRST, [4.0]))
    assert store.content() == {(str(FIRST), 4.0): 1}


def test_a_place_that_can_not_be_written_is_one_line(store, tmp_path, monkeypatch):
    if store.name == "spark":
        pytest.skip("the same session writes and reads")
    monkeypatch.setenv("AWAY", f"postgresql://{LOGIN}@127.0.0.1:9/x")
    (tmp_path / "file").touch()
    store.location = "AWAY" if store.name == "sql" else f"{tmp_path}/file"
    with pytest.raises(UserError) as error:
        store.replace(FIRST, rows(FIRST, [1.0]))
    assert len(str(error.value).splitlines()) == 1
    assert "swordfish" not in str(error.value)


def test_an_unknown_sink_gets_the_nearest_known_one():
    with pytest.raises(UserError, match=r"^params\.yaml: predict\.sink: .*did you mean 'delta'\?"):
        sink("deltas")


@pytest.mark.nightly
@pytest.mark.slow
def test_files_and_delta_are_written_to_azure(azurite, monkeypatch):
    import fsspec

    from mlops.data.sources import delta

    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", azurite.connection_string)
    for value in (1.0, 2.0):
        for name in ("files", "delta"):
            sink(name)(f"az://lake/{name}", "late", FIRST, rows(FIRST, [value]))
    with fsspec.open(f"az://lake/files/late/day={FIRST}/part.parquet", "rb") as file:
        assert pq.read_table(file)["p"].to_pylist() == [2.0]
    table = delta.opened("az://lake/delta", Query("late"))
    assert pa.table(table.scan())["p"].to_pylist() == [2.0]


@pytest.mark.parametrize("location", ["NOVAR/x", "no name"])
def test_a_wrong_location_is_named_by_the_setting_of_the_sink(location):
    with pytest.raises(UserError, match="params.yaml: predict.location: "):
        sink("sql")(location, "late", FIRST, rows(FIRST, [1.0]))
