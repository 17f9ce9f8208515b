"""One project reads the same tables from each place: what differs is `data:` alone."""

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import write_deltalake

from mlops.base.files import folder_digests
from mlops.data.sources import cosmos, delta
from tests.stack.servers import running

pytestmark = [pytest.mark.nightly, pytest.mark.slow]
STORES = ("postgres", "azurite", "cosmos")


@pytest.fixture(scope="module")
def servers():
    with running(*STORES) as servers:
        yield servers


def tables(workspace):
    return {path.stem: pd.read_csv(path) for path in workspace.tables().glob("*.csv")}


def typed(rows):
    """A table as stores hold it: days are days, and whole numbers are whole where some lack."""
    rows = rows.convert_dtypes()
    if "day" in rows:
        rows["day"] = pd.to_datetime(rows["day"]).dt.date
    return pa.Table.from_pandas(rows, preserve_index=False)


def to_azurite(servers, name, table):
    import fsspec

    with fsspec.open(f"az://lake/files/{name}.parquet", "wb") as file:
        pq.write_table(table, file)
    return {"source": "files", "location": "az://lake/files"}


def to_delta(servers, name, table):
    write_deltalake(f"az://lake/delta/{name}", table, storage_options=delta.options())
    return {"source": "delta", "location": "az://lake/delta"}


def to_postgresql(servers, name, table):
    from adbc_driver_postgresql import dbapi

    with dbapi.connect(servers.database("postgres")) as connection, connection.cursor() as cursor:
        cursor.adbc_ingest(name, table)
        connection.commit()
    return {"source": "sql", "location": "WAREHOUSE"}


def to_cosmos(servers, name, table):
    from azure.cosmos import CosmosClient, PartitionKey

    client = CosmosClient(servers.url("cosmos"), "c2VjcmV0", enable_endpoint_discovery=False)
    database = client.create_database_if_not_exists("town")
    container = database.create_container(name, PartitionKey("/id"))
    for number, row in enumerate(table.to_pylist()):
        day = {"day": str(row["day"])} if "day" in row else {}
        container.upsert_item({"id": str(number), **row, **day})
    return {"source": "cosmos", "location": f"{servers.url('cosmos')}/town?without=id"}


def test_raw_tables_are_the_same_bytes_from_every_place(repository, tmp_path, servers, monkeypatch):
    from azure.storage.blob import BlobServiceClient

    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", servers.connection_string)
    monkeypatch.setenv("WAREHOUSE", servers.database("postgres"))
    monkeypatch.setenv(cosmos.KEY, "c2VjcmV0")
    client = BlobServiceClient.from_connection_string(servers.connection_string)
    client.create_container("lake")
    workspace = repository("trips", tmp_path / "trips")

    def raw():
        workspace.run("ingest")
        digests = folder_digests(workspace.root / "data/raw")
        return {name: digest for name, digest in digests.items() if name.endswith(".parquet")}

    expected = raw()
    assert len(expected) > 5
    found = {}
    for fill in (to_azurite, to_delta, to_postgresql, to_cosmos):
        for name, rows in tables(workspace).items():
            data = fill(servers, name, typed(rows))
        workspace.change({f"data.{key}": value for key, value in data.items()})
        found[data["source"]] = raw()
    assert found == dict.fromkeys(found, expected)
