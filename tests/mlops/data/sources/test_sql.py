"""Tables of a database are read by month in one snapshot, in the types that are declared there."""

import datetime as dt
import socket
from decimal import Decimal

import pyarrow as pa
import pytest
from sqlalchemy.dialects import mssql

from mlops.base.errors import UserError
from mlops.data.sources import Query, Unreachable, database, sql
from tests.stack.servers import running

postgresql = [pytest.mark.nightly, pytest.mark.slow]
LOGIN = "u:swordfish"
TABLE = """
CREATE SCHEMA sales;
CREATE TYPE sales.mood AS ENUM ('good', 'bad');
CREATE TABLE sales.trips ("key" text, "day" date, at timestamp, instant timestamptz,
    "a%b ""c" integer, price numeric(10,2), rate numeric, cash money, mood sales.mood);
INSERT INTO sales.trips SELECT 'k' || n, date '2020-01-01' + n, timestamp '2020-01-01 23:00' + n *
    interval '1 day', '2020-01-01 23:00Z'::timestamptz + n * interval '1 day', n, n / 4.0, n / 8.0,
    n, 'bad' FROM generate_series(0, 90) n;
INSERT INTO sales.trips ("key") VALUES ('without');
"""


@pytest.fixture(scope="module")
def server():
    with running("postgres") as servers:
        servers.query(TABLE)
        yield servers


@pytest.fixture
def store(server, monkeypatch):
    """The server, its URL in the environment as the source wants it; each month has its query."""
    monkeypatch.setattr(sql, "TOGETHER", 1)
    url = server.database("postgres").replace("mlops@", "mlops:swordfish@")
    monkeypatch.setenv("WAREHOUSE", url.replace("postgresql:", "postgresql+psycopg2:"))
    return server


def read(name="trips", **query):
    columns, batches = sql.read("WAREHOUSE/sales", Query(name, **query))
    batches = list(batches)
    return columns, pa.Table.from_batches(batches) if batches else None


def refused(location="WAREHOUSE/sales", name="trips", **query):
    with pytest.raises(UserError) as error:
        list(sql.read(location, Query(name, **query)).batches)
    assert len(str(error.value).splitlines()) == 1
    assert "swordfish" not in str(error.value)
    return str(error.value)


class TestPostgreSQL:
    pytestmark = postgresql

    def test_types_are_those_declared_in_the_database(self, store):
        columns, table = read(day="day", since=dt.date(2020, 1, 2), until=dt.date(2020, 1, 2))
        assert table.schema == pa.schema(
            [
                ("key", pa.string()), ("day", pa.date32()), ("at", pa.timestamp("us")),
                ("instant", pa.timestamp("us", "UTC")), ('a%b "c', pa.int32()),
                ("price", pa.decimal128(10, 2)), ("rate", pa.float64()), ("cash", pa.string()),
                ("mood", pa.string()),
            ]
        )  # fmt: skip
        assert table.schema.metadata is None
        assert [field.metadata for field in table.schema] == [None] * 9
        assert columns == tuple(table.schema.names)
        (first,) = (row for row in table.to_pylist() if row["key"] != "without")
        assert first["key"] == "k1"
        assert (first["price"], first["rate"], first["cash"]) == (Decimal("0.25"), 0.125, "$1.00")

    @pytest.mark.parametrize(
        ("day", "expected"), [("day", 32), ("at", 32), ("instant", 34), ("key", 92), (None, 92)]
    )
    def test_each_row_of_the_days_asked_for_comes_once_and_those_without_a_day(
        self, store, day, expected
    ):
        ends = {"since": dt.date(2020, 1, 31), "until": dt.date(2020, 3, 1)}
        _, table = read(columns=("key", "mood", "lost"), day=day, **ends)
        assert table.schema.names == ["key", "mood"]
        keys = table["key"].to_pylist()
        assert (len(keys), len(set(keys))) == (expected, expected)
        assert "without" in keys

    def test_a_table_that_grows_and_changes_is_read_as_it_was(self, store):
        store.query("CREATE TABLE sales.growing AS SELECT * FROM sales.trips")
        batches = sql.read("WAREHOUSE/sales", Query("growing", day="day")).batches
        keys = next(batches)["key"].to_pylist()
        store.query(
            "INSERT INTO sales.growing SELECT * FROM sales.trips; "
            "DELETE FROM sales.growing WHERE day = '2020-03-31'"
        )
        for batch in batches:
            keys += batch["key"].to_pylist()
        assert sorted(keys) == sorted(read()[1]["key"].to_pylist())

    def test_a_lost_connection_costs_no_row_and_none_comes_twice(self, store):
        batches = sql.read("WAREHOUSE/sales", Query("trips", day="day")).batches
        keys = next(batches)["key"].to_pylist()
        store.query(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() "
            "AND backend_type = 'client backend'"
        )
        for batch in batches:
            keys += batch["key"].to_pylist()
        assert sorted(keys) == sorted(read()[1]["key"].to_pylist())

    def test_a_server_that_goes_away_in_the_middle_is_one_line(self, store):
        batches = sql.read("WAREHOUSE/sales", Query("trips", day="day")).batches
        next(batches)
        store.kill("postgres")
        try:
            with pytest.raises(Unreachable, match=r"WAREHOUSE: .*Connection refused") as error:
                list(batches)
            assert len(str(error.value).splitlines()) == 1
        finally:
            store.start("postgres")

    def test_the_state_is_another_one_when_content_is_and_not_for_later_days(self, store):
        store.query("CREATE TABLE sales.changing AS SELECT * FROM sales.trips")
        until = Query("changing", day="day", until=dt.date(2020, 3, 1))

        def states(query=until):
            return sql.fingerprint("WAREHOUSE/sales", [query])["changing"]

        first = states()
        assert first == states()
        store.query("INSERT INTO sales.changing (key, day) VALUES ('late', '2020-03-02')")
        assert states() == first
        seen = {first}
        for change in (
            "UPDATE sales.changing SET price = 0.01 WHERE key = 'k7'",
            "INSERT INTO sales.changing SELECT * FROM sales.changing WHERE key = 'k7'",
            "DELETE FROM sales.changing WHERE key = 'k7'",
            "ALTER TABLE sales.changing ALTER price TYPE numeric(12,2)",
            "ALTER TABLE sales.changing RENAME rate TO ratio",
        ):
            store.query(change)
            seen.add(states())
        assert len(seen) == 6

    @pytest.mark.parametrize(
        ("column", "value", "line"),
        [
            ("day", "infinity", "found infinity or a year before 1 or after 9999"),
            ("at", "-infinity", "found infinity or a year before 1 or after 9999"),
            ("instant", "20000-01-01", "found infinity or a year before 1 or after 9999"),
            ("price", "NaN", "expected numbers"),
        ],
    )
    def test_what_arrow_or_python_can_not_hold_is_refused(self, store, column, value, line):
        store.query("DROP TABLE IF EXISTS sales.odd; CREATE TABLE sales.odd (LIKE sales.trips)")
        store.query(f"INSERT INTO sales.odd ({column}) VALUES ('{value}')")
        assert f"WAREHOUSE: odd.{column}: {line}" in refused(name="odd", columns=(column,))

    def test_a_renamed_table_or_one_without_permission_is_named(self, store):
        assert refused(name="trip") == (
            "WAREHOUSE: no table 'trip' that this login may read in schema 'sales'; "
            "did you mean 'trips'?"
        )

    def test_a_wrong_login_is_one_line_without_the_password(self, store, monkeypatch):
        url = store.database("nowhere").replace("mlops@", "mlops:swordfish@")
        monkeypatch.setenv("WAREHOUSE", url)
        with pytest.raises(Unreachable):
            sql.read("WAREHOUSE", Query("trips"))
        assert 'database "nowhere" does not exist' in refused("WAREHOUSE")


@pytest.mark.parametrize(
    ("url", "line"),
    [
        (f"postgresql://{LOGIN}@127.0.0.1:9/x", "WAREHOUSE: .*Connection refused"),
        (f"mssql://{LOGIN}@127.0.0.1:9/x", "WAREHOUSE: Driver Error: "),
        ("mssql://127.0.0.1:9/x", "WAREHOUSE: Driver Error: .*DefaultAzureCredential"),
        (f"mysql://{LOGIN}@h/x", "found dialect 'mysql'; known: postgresql, mssql"),
        ("swordfish", "WAREHOUSE: expected an SQLAlchemy URL; found another text"),
        ("", "environment variable WAREHOUSE is not set"),
    ],
)
def test_a_database_that_is_away_or_unknown_is_one_line(monkeypatch, url, line):
    monkeypatch.setenv("WAREHOUSE", url)
    with pytest.raises(UserError, match=line) as error:
        sql.read("WAREHOUSE", Query("trips"))
    assert isinstance(error.value, Unreachable) == ("127" in url or not url)
    assert "swordfish" not in str(error.value)
    assert len(str(error.value).splitlines()) == 1


def test_a_server_that_does_not_answer_is_given_up(monkeypatch):
    monkeypatch.setattr(database, "LOGIN_SECONDS", 2)
    monkeypatch.setitem(database.POSTGRESQL, "connect_timeout", "2")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        for dialect in ("postgresql", "mssql"):
            url = f"{dialect}://{LOGIN}@127.0.0.1:{silent.getsockname()[1]}/x"
            monkeypatch.setenv("WAREHOUSE", url)
            with pytest.raises(Unreachable):
                sql.read("WAREHOUSE", Query("trips"))


def test_a_version_is_refused_before_anything_is_asked():
    for read in (sql.read, lambda place, query: sql.fingerprint(place, [query])):
        with pytest.raises(UserError, match="data.versions: trips: found 3, but sql holds no"):
            read("WAREHOUSE", Query("trips", version=3))


def test_a_url_in_params_yaml_is_refused_and_not_repeated():
    with pytest.raises(UserError) as error:
        sql.read(f"postgresql://{LOGIN}@h/x", Query("trips"))
    assert "expected the name of an environment variable" in str(error.value)
    assert "swordfish" not in str(error.value)


# Nothing here speaks SQL Server's protocol: these are the statements that it would get.
def test_sql_server_is_asked_by_month_with_bound_days(monkeypatch):
    monkeypatch.setenv("WAREHOUSE", "mssql://server.database.windows.net/sales")
    store = database.database("WAREHOUSE/dbo")
    kinds = {"key": ("nvarchar", None, None), "day]": ("date", None, None)}
    query = Query("trips", ("key",), "day]", until=dt.date(2020, 3, 1))
    table = sql.Table(store, query, kinds)

    def compiled(statement):
        made = statement.compile(dialect=mssql.dialect(paramstyle="qmark"))
        return " ".join(str(made).split()), [made.params[name] for name in made.positiontup]

    text, values = compiled(store.catalog())
    assert values == ["dbo"]
    assert "FROM [INFORMATION_SCHEMA].[COLUMNS] WHERE [TABLE_SCHEMA] = ? ORDER BY" in text
    within = "dbo.trips.[day]]] < ? OR dbo.trips.[day]]] IS NULL"
    parts = [f"CAST(DATEPART({part}, dbo.trips.[day]]]) AS INTEGER)" for part in ("year", "month")]
    text, values = compiled(table.months())
    assert values == [dt.date(2020, 3, 2)]
    both = ", ".join(parts)
    assert text == (
        f"SELECT {parts[0]} AS anon_1, {parts[1]} AS anon_2, CAST(count(*) AS BIGINT) AS count_1 "
        f"FROM dbo.trips WHERE {within} GROUP BY {both} ORDER BY {both}"
    )
    months = [(2019, 12, sql.TOGETHER), (2020, 1, 1), (2020, 2, 1), (None, None, 1)]
    pieces = [compiled(piece) for piece in table.pieces(months)]
    assert len(pieces) == 3
    text, values = pieces[0]
    assert values == [dt.date(2020, 3, 2), dt.date(2019, 12, 1), dt.date(2020, 1, 1)]
    assert text == (
        f"SELECT dbo.trips.[key] FROM dbo.trips WHERE ({within}) AND dbo.trips.[day]]] >= ? "
        "AND dbo.trips.[day]]] < ?"
    )
    text, _ = compiled(table.state())
    assert text == (
        "SELECT count_big(*) AS count_big_1, checksum_agg(binary_checksum(*)) AS checksum_agg_1 "
        f"FROM (SELECT dbo.trips.[key] AS [key] FROM dbo.trips WHERE {within}) AS mlops_rows"
    )
    kinds["day]"] = ("datetimeoffset", None, None)
    text, _ = compiled(sql.Table(store, query, kinds).months())
    assert "switchoffset(dbo.trips.[day]]], ?)" in text


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("mssql://h/d", "Server={h};Database={d};Authentication={ActiveDirectoryDefault};"),
        (f"mssql+pyodbc://{'u:a%7D%3Bb'}@h:1/d?driver=x&Encrypt=yes",
         "Server={h,1};Database={d};UID={u};PWD={a}};b};Encrypt={yes};"),
    ],
)  # fmt: skip
def test_a_url_becomes_the_connection_string_of_microsofts_driver(url, expected):
    from mssql_python.connection_string_parser import _ConnectionStringParser
    from sqlalchemy.engine import make_url

    assert database.connection_string(make_url(url)) == expected
    assert _ConnectionStringParser(validate_keywords=True)._parse(expected)["server"][0] == "h"
