"""Stores of Azure, each with the credentials of its own test."""

from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def own_credentials() -> Iterator[None]:
    """Forget the clients that earlier tests have made: fsspec keeps them with their logins."""
    from adlfs import AzureBlobFileSystem

    AzureBlobFileSystem.clear_instance_cache()
    yield
    AzureBlobFileSystem.clear_instance_cache()
