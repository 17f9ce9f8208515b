"""Documents of Cosmos DB are read page by page, and typed by one rule."""

import datetime as dt
import json
import socket

import pyarrow as pa
import pytest

from mlops.base.errors import UserError
from mlops.data.sources import Query, Unreachable, cosmos
from tests.mlops.data.sources.expiring import expiring
from tests.stack.servers import running

pytestmark = [pytest.mark.nightly, pytest.mark.slow]
# Any will do: the emulator looks at none.
KEY = "c3dvcmRmaXNo"


@pytest.fixture(scope="module")
def url():
    with running("cosmos") as servers:
        yield servers.url("cosmos")


@pytest.fixture
def container(url, monkeypatch):
    """An empty container, `trips` of `sales`, in pages of ten."""
    from azure.cosmos import CosmosClient, PartitionKey

    monkeypatch.setenv(cosmos.KEY, KEY)
    monkeypatch.setattr(cosmos, "PAGE", 10)
    client = CosmosClient(url, KEY, enable_endpoint_discovery=False)
    database = client.create_database_if_not_exists("sales")
    yield database.create_container("trips", PartitionKey("/town"))
    database.delete_container("trips")


def fill(container, number=45, **more):
    for n in range(number):
        row = {"id": str(n), "town": "abc"[n % 3], "day": str(dt.date(2020, 1, 1 + n % 31)), "n": n}
        container.upsert_item(row | more)


def read(url, **query):
    columns, batches = cosmos.read(f"{url}/sales", Query("trips", **query))
    return columns, list(batches)


def rows(url, **query):
    return [row for batch in read(url, **query)[1] for row in batch.to_pylist()]


def test_pages_of_all_partitions_come_without_the_systems_fields(container, url):
    fill(container)
    columns, batches = read(url)
    assert columns == ("id", "town", "day", "n")
    assert [batch.num_rows for batch in batches] == [10, 10, 10, 10, 5]
    assert batches[0].schema.names == list(columns)
    assert sorted(row["n"] for row in rows(url)) == list(range(45))
    columns, batches = cosmos.read(f"{url}/sales?without=id", Query("trips"))
    assert columns == ("town", "day", "n") == tuple(next(batches).schema.names)


def test_days_and_columns_are_asked_of_the_service(container, url):
    fill(container)
    container.upsert_item({"id": "rare", "town": "a", 'a "b"': 1})
    container.upsert_item({"id": "odd", "town": "a", "day": "03/01/2020"})
    columns, _ = read(url, columns=("n", 'a "b"', "lost"))
    assert columns == ("id", "town", "day", "n", 'a "b"')
    ends = {"since": dt.date(2020, 1, 10), "until": dt.date(2020, 1, 11)}
    found = rows(url, columns=("day", 'a "b"'), day="day", **ends)
    # A day more on each side, whose instants may be the local day's.
    days = {row["day"] for row in found}
    assert days == {"2020-01-09", "2020-01-10", "2020-01-11", "2020-01-12", "03/01/2020", None}
    assert [row['a "b"'] for row in found if row['a "b"']] == [1]
    today = dt.date.today()
    assert len(rows(url, day="_ts", since=today)) == 47
    assert rows(url, day="_ts", until=today - dt.timedelta(days=3)) == []


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1, None, 2], pa.array([1, None, 2])),
        ([1, 2.5], pa.array([1.0, 2.5])),
        ([2**70], pa.array([2.0**70])),
        ([True, None], pa.array([True, None])),
        (["a", None], pa.array(["a", None])),
        ([None], pa.nulls(1)),
        ([1, "a", True, None], pa.array(["1", "a", "true", None])),
        ([{"a": [1]}, None], pa.array(['{"a": [1]}', None])),
    ],
)
def test_values_of_several_kinds_in_one_page_become_text(container, url, values, expected):
    for n, value in enumerate(values):
        container.upsert_item({"id": str(n), "town": "a", "x": value})
    _, (batch,) = read(url, columns=("id", "x"))
    assert batch.sort_by("id").column("x").equals(expected)


def test_the_state_is_another_one_when_documents_are(container, url):
    fill(container, 5)
    query = Query("trips", day="day", until=dt.date(2020, 1, 4))

    def state():
        return cosmos.fingerprint(f"{url}/sales", [query])["trips"]

    first = state()
    container.upsert_item({"id": "late", "town": "a", "day": "2020-02-01"})
    assert state() == first
    container.delete_item("0", "a")
    second = state()
    container.upsert_item({"id": "0", "town": "a", "day": "2020-01-01"})
    container.upsert_item({"id": "new", "town": "a", "day": "2020-01-01"})
    assert len({first, second, state()}) == 3


def test_other_names_and_forms_are_one_line(container, url, monkeypatch):
    def line(location, name="trips"):
        with pytest.raises(UserError) as error:
            cosmos.read(location, Query(name))
        assert len(str(error.value).splitlines()) == 1
        assert KEY not in str(error.value)
        return f"{type(error.value).__name__}: {error.value}"

    assert line(f"{url}/sales", "trip").endswith("no container 'trip'; did you mean 'trips'?")
    assert line(f"{url}/sale").startswith(f"UserError: {url}/sale: no such database")
    assert line("http://127.0.0.1:9/sales").startswith("Unreachable: http://127.0.0.1:9/sales: ")
    assert line(f"{url}/sales?key=swordfish").endswith("found another form")
    assert line("AccountEndpoint=https://x;AccountKey=y;").endswith("found another form")
    assert line(f"{url}/sales".replace("//", "//u:swordfish@")).endswith("found another form")
    monkeypatch.setenv(cosmos.KEY, "abc")
    assert "AZURE_COSMOS_KEY: expected a key in Base64" in line(f"{url}/sales")
    monkeypatch.delenv(cosmos.KEY)
    assert line("https://127.0.0.1:9/sales").startswith("Unreachable: https://127.0.0.1:9/sales: ")


@pytest.mark.timeout(60)
def test_a_silent_server_is_one_line(monkeypatch):
    monkeypatch.setenv(cosmos.KEY, KEY)
    monkeypatch.setitem(cosmos.LIMITS, "read_timeout", 1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        place = f"http://127.0.0.1:{silent.getsockname()[1]}/sales"
        with pytest.raises(Unreachable, match=f"^{place}: trips: ") as error:
            cosmos.read(place, Query("trips"))
    assert len(str(error.value).splitlines()) == 1


def test_credentials_that_expire_in_the_middle_are_one_line(container, url, monkeypatch):
    monkeypatch.setattr(cosmos, "SAMPLE", 1)
    fill(container)
    refusal = (401, json.dumps({"code": "Unauthorized"}).encode())
    # One page is read for the names of the columns.
    with expiring(url, refusal, lambda _, content: b'"n":' in content, answers=3) as place:
        batches = cosmos.read(f"{place}/sales", Query("trips")).batches
        assert [next(batches).num_rows, next(batches).num_rows] == [10, 10]
        with pytest.raises(Unreachable, match=rf"^{place}/sales: trips: .*Unauthorized") as error:
            next(batches)
    assert len(str(error.value).splitlines()) == 1
