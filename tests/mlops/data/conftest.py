"""Stores of Azure, each with the credentials of its own test."""

from collections.abc import Iterator

import pytest

from tests.stack.servers import Servers, running


@pytest.fixture(autouse=True)
def own_credentials() -> Iterator[None]:
    """Forget the clients that earlier tests have made: fsspec keeps them with their logins."""
    from adlfs import AzureBlobFileSystem

    AzureBlobFileSystem.clear_instance_cache()
    yield
    AzureBlobFileSystem.clear_instance_cache()


@pytest.fixture(scope="module")
def azurite() -> Iterator[Servers]:
    """A store with the empty container `lake`."""
    from azure.storage.blob import BlobServiceClient

    with running("azurite") as servers:
        client = BlobServiceClient.from_connection_string(servers.connection_string)
        client.create_container("lake")
        yield servers
