"""Tables below Azure's URLs, read and written with the real client from Azurite."""

import datetime as dt
import os
import socket
import subprocess
from base64 import b64encode

import pandas as pd
import pyarrow as pa
import pytest

from mlops.base import processes
from mlops.base.errors import UserError
from mlops.data.sinks import sink
from mlops.data.sources import Query, Unreachable, files
from tests.conftest import REPOSITORY
from tests.mlops.data.sources.expiring import expiring
from tests.programs import program

pytestmark = pytest.mark.nightly
QUERY, DAY = Query("rows", columns=("n",)), dt.date(2020, 1, 1)


def connection(port, key):
    account = f"DefaultEndpointsProtocol=http;AccountName=mlops;AccountKey={key}"
    return f"{account};BlobEndpoint=http://127.0.0.1:{port}/mlops;"


def blobs(port, key):
    from azure.storage.blob import ContainerClient

    return ContainerClient.from_connection_string(connection(port, key), "raw", retry_total=9)


@pytest.fixture(scope="module")
def azurite(tmp_path_factory):
    """The port and the key of a store that has a table in the container `raw`."""
    folder, key = tmp_path_factory.mktemp("azurite"), b64encode(os.urandom(64)).decode()
    command = program(
        "azurite-blob", "npm ci --prefix infra/local", REPOSITORY / "infra/local/node_modules/.bin"
    )
    port = processes.free_port()
    words = [command, "--blobPort", str(port), "--location", str(folder), "--silent"]
    started = subprocess.Popen(
        [*words, "--skipApiVersionCheck", "--disableTelemetry"],
        env={**os.environ, "AZURITE_ACCOUNTS": f"mlops:{key}"},
    )
    try:
        container = blobs(port, key)
        container.create_container()
        content = pd.DataFrame({"n": [1, 2], "x": [0.5, 1.5]}).to_parquet(index=False)
        container.upload_blob("tables/rows/part-0.parquet", content)
        container.upload_blob("tables/others.csv", b"n\n1\n")
        yield port, key
    finally:
        started.kill()
        started.wait()


@pytest.fixture(autouse=True)
def no_credentials(monkeypatch):
    from adlfs import AzureBlobFileSystem

    # A file system is made once for each URL.
    AzureBlobFileSystem.clear_instance_cache()
    for name in [name for name in os.environ if name.startswith("AZURE_")]:
        monkeypatch.delenv(name)


@pytest.mark.parametrize(
    "url", ["abfs://raw", "az://raw", "abfss://raw@mlops.dfs.core.windows.net"]
)
def test_azure_s_urls_are_read_and_the_store_knows_the_state(azurite, monkeypatch, url):
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", connection(*azurite))
    columns, batches = files.read(f"{url}/tables", QUERY)
    assert columns == ("n", "x")
    assert [batch.to_pydict() for batch in batches] == [{"n": [1, 2]}]
    (state,) = files.fingerprint(f"{url}/tables", [QUERY]).values()
    assert "version" in state


def read(place):
    files.read(place, QUERY)


def write(place):
    sink("files")(place, "late", DAY, pa.table({"day": [DAY]}).to_reader())


@pytest.mark.timeout(30)
@pytest.mark.parametrize("use", [read, write])
@pytest.mark.parametrize(
    ("credentials", "said"),
    [
        ("key", "HttpResponseError: Server failed to authenticate the request"),
        ("chain", "ClientAuthenticationError: DefaultAzureCredential failed to retrieve a token"),
        ("closed", "ServiceRequestError: Cannot connect to host 127.0.0.1:9"),
        ("silent", "ServiceResponseTimeoutError: Timeout on reading data from socket"),
    ],
)
def test_a_store_that_is_away_or_refuses_is_one_line_in_seconds(
    azurite, monkeypatch, caplog, use, credentials, said
):
    wrong = b64encode(os.urandom(64)).decode()
    monkeypatch.setitem(files.PATIENCE, "read_timeout", 1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        ports = {"key": azurite[0], "closed": 9, "silent": silent.getsockname()[1]}
        if credentials in ports:
            given = connection(ports[credentials], wrong)
            monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", given)
        else:
            monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "nobody")
        with pytest.raises(UserError) as error:
            use("abfs://raw/tables")
    places = {read: "params.yaml: data.location: abfs://raw/tables",
              write: "abfs://raw/tables: late: can't be written"}  # fmt: skip
    assert str(error.value).startswith(f"{places[use]}: {said}")
    assert isinstance(error.value, Unreachable) == (use is read)
    assert "\n" not in str(error.value)
    assert wrong not in str(error.value)
    assert not caplog.records


def test_credentials_that_expire_in_the_middle_are_one_line(azurite, monkeypatch):
    port, key = azurite
    content = pd.DataFrame({"n": [3], "x": [2.5]}).to_parquet(index=False)
    later = blobs(port, key).get_blob_client("tables/rows/part-1.parquet")
    later.upload_blob(content)
    refusal = (403, b"<Error><Code>AuthenticationFailed</Code></Error>")

    def second(path, _):
        return path.startswith("/mlops/raw/tables/rows/part-1.parquet")

    try:
        with expiring(f"http://127.0.0.1:{port}", refusal, second, answers=0) as place:
            through = connection(place.rpartition(":")[2], key)
            monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", through)
            batches = files.read("abfs://raw/tables", QUERY).batches
            assert next(batches).to_pydict() == {"n": [1, 2]}
            with pytest.raises(UserError, match=r"^raw/tables/rows/part-1\.parquet: .*") as error:
                next(batches)
    finally:
        later.delete_blob()
    assert "Forbidden" in str(error.value)
    assert len(str(error.value).splitlines()) == 1
    assert key not in str(error.value)
