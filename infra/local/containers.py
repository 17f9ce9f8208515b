"""Create the blob containers of DVC and MLflow where they are missing.

The storage account is that of `AZURE_STORAGE_CONNECTION_STRING`.
"""

from __future__ import annotations

import os
from contextlib import suppress

from azure.core.exceptions import ResourceExistsError
from azure.storage.blob import BlobServiceClient

CONTAINERS = ("dvc", "mlflow")

if __name__ == "__main__":
    connection = os.environ["AZURE_STORAGE_CONNECTION_STRING"]
    with BlobServiceClient.from_connection_string(connection) as store:
        for name in CONTAINERS:
            with suppress(ResourceExistsError):
                store.create_container(name)
