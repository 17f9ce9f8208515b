"""Tables of a Spark session are streamed, or handed on as a DataFrame."""

import datetime as dt

import pyarrow as pa
import pytest

from mlops.base.errors import UserError
from mlops.data import engine
from mlops.data.sources import Query, Unreachable, spark

pytestmark = [pytest.mark.nightly, pytest.mark.slow, pytest.mark.spark]
ROWS = (
    "SELECT id, date_add(date'2020-01-01', CAST(id AS int)) AS day, CAST(id AS decimal(10,2)) AS x,"
    " map('a', id) AS pairs, timestamp'2020-01-01 12:00' + make_dt_interval(CAST(id AS int)) AS at,"
    " CAST(date_add(date'2020-01-01', CAST(id AS int)) AS timestamp_ntz) AS local,"
    " CAST(id AS string) AS text FROM range(90)"
)


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    session = engine.start("spark")
    session.sql(f"CREATE DATABASE lake LOCATION '{tmp_path_factory.mktemp('lake')}'")
    session.sql(f"CREATE TABLE lake.trips USING parquet AS {ROWS}")
    yield session
    session.sql("DROP DATABASE lake CASCADE")


def refused(location, name="trips", **query):
    with pytest.raises(UserError) as error:
        spark.read(location, Query(name, **query))
    assert len(str(error.value).splitlines()) == 1
    return str(error.value)


@pytest.mark.parametrize(
    ("day", "expected"), [("day", 31), ("local", 31), ("at", 33), ("text", 90), (None, 90)]
)
def test_columns_and_days_asked_for_are_streamed(session, day, expected):
    query = Query("trips", ("id", "x", "lost"), day, dt.date(2020, 1, 20), dt.date(2020, 2, 19))
    columns, batches = spark.read("lake", query)
    assert columns == ("id", "day", "x", "pairs", "at", "local", "text")
    table = pa.Table.from_batches(batches)
    assert table.schema.names == ["id", "x"]
    assert table.schema.types == [pa.int64(), pa.decimal128(10, 2)]
    assert len(set(table["id"].to_pylist())) == len(table) == expected
    assert spark.frame(session, "spark_catalog.lake", query).count() == expected


def test_a_machine_without_java_is_away(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    with pytest.raises(Unreachable, match="no Java"):
        spark.fingerprint("lake", [Query("trips")])


def test_all_columns_have_the_tables_types(session):
    table = pa.Table.from_batches(spark.read("lake", Query("trips")).batches)
    assert len(table) == 90
    assert table.schema.field("at").type == pa.timestamp("us", "UTC")
    assert table.schema.field("local").type == pa.timestamp("us")


def test_the_state_is_another_one_when_content_is_and_not_for_later_days(session):
    def states(table, **query):
        return spark.fingerprint("lake", [Query(table, **query)])[table]

    session.sql(f"CREATE TABLE lake.growing USING parquet AS {ROWS}")
    until = {"day": "day", "until": dt.date(2020, 2, 1)}
    before, whole = states("growing", **until), states("growing")
    assert whole == states("trips")
    session.sql("INSERT INTO lake.growing SELECT * FROM lake.trips WHERE id = 80")
    assert states("growing", **until) == before
    assert states("growing") != whole


def test_names_and_versions_that_are_not_there_are_one_line(session):
    assert refused("lake", "trip") == "lake: no table 'trip'; did you mean 'trips'?"
    assert refused("lakes").startswith("lakes: trips: [SCHEMA_NOT_FOUND]")
    assert refused("lake", version=3).endswith("but the table is none of Delta Lake")
    assert "no table" in refused("")
