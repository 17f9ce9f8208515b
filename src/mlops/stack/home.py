"""What the stack keeps: ports, secrets, the variables that point a program at it."""

from __future__ import annotations

import base64
import json
import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from mlops.base import processes
from mlops.base.processes import HOST

FOLDER = Path(".run/stack")
PORTS = {
    "postgres": 5432, "azurite": 10000, "mlflow": 5000, "prefect": 4200, "gateway": 9091,
    "prometheus": 9090, "scoring": 8080,
}  # fmt: skip
ACCOUNT = "mlops"


@dataclass(frozen=True)
class Home:
    """A stack's folder, its ports and its secrets, the same at every start."""

    root: Path
    folder: Path
    ports: dict[str, int]
    password: str
    key: str

    @classmethod
    def at(cls, root: Path, place: Path | None = None) -> Self:
        """The stack of a repository; made up at the first time, and kept from others' eyes."""
        folder = (place or root / FOLDER).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / "settings.json"
        if not file.exists():
            _write_private(file, json.dumps(_new()))
        return cls(root.resolve(), folder, **json.loads(file.read_text()))

    def url(self, name: str) -> str:
        """Where a server of the stack is asked."""
        return f"http://{HOST}:{self.ports[name]}"

    def database(self, name: str, scheme: str = "postgresql") -> str:
        """The address of a database, password included."""
        return f"{scheme}://mlops:{self.password}@{HOST}:{self.ports['postgres']}/{name}"

    @property
    def storage(self) -> str:
        """Azure's connection string of the store."""
        return (
            f"DefaultEndpointsProtocol=http;AccountName={ACCOUNT};AccountKey={self.key};"
            f"BlobEndpoint={self.url('azurite')}/{ACCOUNT};"
        )

    def environment(self) -> dict[str, str]:
        """The tools' own variables, pointing at the stack."""
        return {
            "MLFLOW_TRACKING_URI": self.url("mlflow"),
            "PREFECT_API_URL": f"{self.url('prefect')}/api",
            "AZURE_STORAGE_CONNECTION_STRING": self.storage,
            "PROMETHEUS_PUSHGATEWAY": self.url("gateway"),
            "DO_NOT_TRACK": "1",
            "MLFLOW_DISABLE_TELEMETRY": "true",
        }

    def write_environment(self) -> None:
        """The same as a file for a shell."""
        lines = (f"{name}='{value}'\n" for name, value in self.environment().items())
        _write_private(self.folder / "environment", "".join(lines))


def _new() -> dict[str, object]:
    ports = {name: processes.free_port(port) for name, port in PORTS.items()}
    key = base64.b64encode(secrets.token_bytes(64)).decode()
    return {"ports": ports, "password": secrets.token_hex(16), "key": key}


def _write_private(file: Path, content: str) -> None:
    aside = file.with_name(f".{file.name}.part")
    aside.unlink(missing_ok=True)
    with os.fdopen(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as opened:
        opened.write(content)
    os.replace(aside, file)
