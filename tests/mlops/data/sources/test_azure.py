"""Tables below Azure's URLs, read and written with the real client from Azurite."""

import datetime as dt
import os
import socket
from base64 import b64encode

import pandas as pd
import pyarrow as pa
import pytest

from mlops.base.errors import UserError
from mlops.data.sinks import sink
from mlops.data.sources import Query, Unreachable, files
from tests.mlops.data.sources.expiring import expiring

pytestmark = pytest.mark.nightly
QUERY, DAY = Query("rows", columns=("n",)), dt.date(2020, 1, 1)


@pytest.fixture(scope="module")
def store(azurite):
    """The store, with two tables, and the client of its container."""
    from azure.storage.blob import ContainerClient

    container = ContainerClient.from_connection_string(azurite.connection_string, "lake")
    content = pd.DataFrame({"n": [1, 2], "x": [0.5, 1.5]}).to_parquet(index=False)
    container.upload_blob("tables/rows/part-0.parquet", content)
    container.upload_blob("tables/others.csv", b"n\n1\n")
    return azurite, container


@pytest.fixture(autouse=True)
def no_credentials(monkeypatch):
    for name in [name for name in os.environ if name.startswith("AZURE_")]:
        monkeypatch.delenv(name)


@pytest.mark.parametrize(
    "url", ["abfs://lake", "az://lake", "abfss://lake@mlops.dfs.core.windows.net"]
)
def test_azure_s_urls_are_read_and_the_store_knows_the_state(store, monkeypatch, url):
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", store[0].connection_string)
    columns, batches = files.read(f"{url}/tables", QUERY)
    assert columns == ("n", "x")
    assert [batch.to_pydict() for batch in batches] == [{"n": [1, 2]}]
    (state,) = files.fingerprint(f"{url}/tables", [QUERY]).values()
    assert "version" in state


def read(place):
    files.read(place, QUERY)


def write(place):
    sink("files")(place, "late", DAY, pa.table({"day": [DAY]}).to_reader())


KEY = ("key", "HttpResponseError: Server failed to authenticate the request")


@pytest.mark.timeout(30)
@pytest.mark.parametrize(
    ("use", "credentials", "message"),
    [
        (write, *KEY),
        (read, *KEY),
        (read, "chain", "ClientAuthenticationError: DefaultAzureCredential failed to retrieve a"),
        (read, "closed", "ServiceRequestError: Cannot connect to host 127.0.0.1:9"),
        (read, "silent", "ServiceResponseTimeoutError: Timeout on reading data from socket"),
    ],
)
def test_a_store_that_is_away_or_refuses_is_one_line_in_seconds(
    store, monkeypatch, caplog, use, credentials, message
):
    servers, wrong = store[0], b64encode(os.urandom(64)).decode()
    monkeypatch.setitem(files.PATIENCE, "read_timeout", 1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        known = servers.ports["azurite"]
        ports = {"key": known, "closed": 9, "silent": silent.getsockname()[1]}
        if credentials in ports:
            given = servers.connection_string.replace(servers.key, wrong)
            given = given.replace(f":{known}/", f":{ports[credentials]}/")
            monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", given)
        else:
            monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "nobody")
        with pytest.raises(UserError) as error:
            use("abfs://lake/tables")
    places = {read: "params.yaml: data.location: abfs://lake/tables",
              write: "abfs://lake/tables: late: can't be written"}  # fmt: skip
    assert str(error.value).startswith(f"{places[use]}: {message}")
    assert isinstance(error.value, Unreachable) == (use is read)
    assert "\n" not in str(error.value)
    assert wrong not in str(error.value)
    assert not caplog.records


def test_credentials_that_expire_in_the_middle_are_one_line(store, monkeypatch):
    servers, container = store
    content = pd.DataFrame({"n": [3], "x": [2.5]}).to_parquet(index=False)
    later = container.upload_blob("tables/rows/part-1.parquet", content)
    refusal = (403, b"<Error><Code>AuthenticationFailed</Code></Error>")

    def second(path, _):
        return path.startswith("/mlops/lake/tables/rows/part-1.parquet")

    url = servers.url("azurite")
    try:
        with expiring(url, refusal, second, answers=0) as place:
            through = servers.connection_string.replace(url, place)
            monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", through)
            batches = files.read("abfs://lake/tables", QUERY).batches
            assert next(batches).to_pydict() == {"n": [1, 2]}
            with pytest.raises(UserError, match=r"^lake/tables/rows/part-1\.parquet: ") as error:
                next(batches)
    finally:
        later.delete_blob()
    assert "Forbidden" in str(error.value)
    assert len(str(error.value).splitlines()) == 1
    assert servers.key not in str(error.value)
