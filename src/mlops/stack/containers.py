"""`python -m mlops.stack.containers`: the store's containers, for DVC and for MLflow."""

from __future__ import annotations

import os

CONTAINERS = ("dvc", "mlflow")


def make(connection: str) -> None:
    """Make those that are not there yet."""
    from azure.core.exceptions import ResourceExistsError
    from azure.storage.blob import BlobServiceClient

    with BlobServiceClient.from_connection_string(connection) as store:
        for name in CONTAINERS:
            try:
                store.create_container(name)
            except ResourceExistsError:
                continue


if __name__ == "__main__":
    make(os.environ["AZURE_STORAGE_CONNECTION_STRING"])
