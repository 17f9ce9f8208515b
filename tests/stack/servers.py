"""The servers of `infra/local/compose.yaml` as processes of this machine, on loopback."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
from base64 import b64encode
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import psutil

from mlops.base import processes
from mlops.base.processes import HOST
from mlops.pipeline import servers
from tests.programs import program

LOCAL = Path(__file__).parents[2] / "infra/local"
NAMES = ("postgres", "azurite", "mlflow", "prefect", "gateway", "prometheus")
# PostgreSQL refuses to run as root; Debian's package creates this user.
USER: dict[str, Any] = (
    {"user": "postgres", "group": "postgres", "extra_groups": []} if os.geteuid() == 0 else {}
)
PROMETHEUS = "apt-get install prometheus prometheus-pushgateway"


@dataclass
class Server:
    """One process: how it is started, and whether it accepts requests."""

    command: list[str]
    ready: Callable[[], bool] = lambda: True
    variables: dict[str, str] = field(default_factory=dict)
    folder: Path | None = None
    options: dict[str, Any] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None

    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None


class Servers:
    """All of them, with their ports, data and logs in `folder`; PostgreSQL's user can read it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        sockets = [socket.create_server((HOST, 0)) for _ in NAMES]
        self.ports = {name: s.getsockname()[1] for name, s in zip(NAMES, sockets, strict=True)}
        for each in sockets:
            each.close()
        self.key = b64encode(secrets.token_bytes(64)).decode()
        self.servers = {name: getattr(self, f"_{name}")() for name in NAMES}

    def start(self, *names: str) -> None:
        """Start those that do not run, all at once, and wait until they accept requests."""
        for name in names:
            server = self.servers[name]
            if not server.running():
                with (self.folder / f"{name}.log").open("ab") as log:
                    server.process = subprocess.Popen(
                        server.command, env={**os.environ, **self.environment, **server.variables},
                        cwd=server.folder or self.folder, stdin=subprocess.DEVNULL,
                        stdout=log, stderr=log, **server.options,
                    )  # fmt: skip
        for name in names:
            server = self.servers[name]
            assert processes.wait(server.ready, server.running), self.log(name)

    def start_all(self) -> None:
        """Start everything, the data stores first and created if they are new."""
        self.start("postgres", "azurite")
        _create_databases(self.database("postgres"), ("mlflow", "prefect"))
        _run([sys.executable, str(LOCAL / "containers.py")], env={**os.environ, **self.environment})
        self.start(*NAMES)

    def kill(self, *names: str) -> None:
        """End processes and all that they started, as a power failure does."""
        for name in names:
            process = self.servers[name].process
            if process and process.poll() is None:
                parent = psutil.Process(process.pid)
                # The parent first: it would start its children again.
                for each in [parent, *parent.children(recursive=True)]:
                    with suppress(psutil.NoSuchProcess):
                        each.kill()
                process.wait()

    def kill_all(self) -> None:
        self.kill(*reversed(self.servers))

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text()[-6000:]

    def url(self, name: str) -> str:
        return f"http://{HOST}:{self.ports[name]}"

    def database(self, name: str, scheme: str = "postgresql") -> str:
        return f"{scheme}://mlops@{HOST}:{self.ports['postgres']}/{name}"

    @property
    def environment(self) -> dict[str, str]:
        """The variables that point a program at these servers."""
        return {
            **servers.ENVIRONMENT,
            "MLFLOW_TRACKING_URI": self.url("mlflow"),
            "PREFECT_API_URL": f"{self.url('prefect')}/api",
            "PROMETHEUS_PUSHGATEWAY": self.url("gateway"),
            "AZURE_STORAGE_CONNECTION_STRING": (
                f"DefaultEndpointsProtocol=http;AccountName=mlops;AccountKey={self.key};"
                f"BlobEndpoint={self.url('azurite')}/mlops;"
            ),
        }

    def _postgres(self) -> Server:
        folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
        install = "apt-get install postgresql"
        data = self.folder / "postgres"
        data.mkdir(mode=0o700)
        if USER:
            shutil.chown(data, USER["user"], USER["group"])
        initdb = [program("initdb", install, *folders), "--pgdata", str(data), "--auth=trust",
                  "--username=mlops", "--encoding=UTF8", "--no-locale", "--no-sync"]  # fmt: skip
        _run(initdb, cwd="/", **USER)
        # No socket file: its path has a small limit.
        command = [program("postgres", install, *folders), "-D", str(data), "-h", HOST,
                   "-p", str(self.ports["postgres"]), "-k", "",
                   "-c", "max_connections=200"]  # fmt: skip
        return Server(command, partial(_connects, self.database("postgres")), options=USER)

    def _azurite(self) -> Server:
        azurite = program(
            "azurite-blob", "npm ci --prefix infra/local", LOCAL / "node_modules/.bin"
        )
        command = [azurite, "--blobHost", HOST, "--blobPort", str(self.ports["azurite"]),
                   "--location", str(self.folder / "azurite"), "--skipApiVersionCheck",
                   "--disableTelemetry", "--silent"]  # fmt: skip
        accounts = {"AZURITE_ACCOUNTS": f"mlops:{self.key}"}
        return Server(command, partial(_accepts, self.ports["azurite"]), accounts)

    def _mlflow(self) -> Server:
        command = [sys.executable, "-m", "mlflow", "server", "--host", HOST, "--workers", "1",
                   "--port", str(self.ports["mlflow"]), "--serve-artifacts"]  # fmt: skip
        variables = {
            "MLFLOW_BACKEND_STORE_URI": self.database("mlflow"),
            "MLFLOW_ARTIFACTS_DESTINATION": "wasbs://mlflow@mlops.blob.core.windows.net/",
        }
        return Server(command, self._answers("mlflow", "/health"), variables)

    def _prefect(self) -> Server:
        command = [sys.executable, "-m", "prefect", "server", "start", "--host", HOST,
                   "--port", str(self.ports["prefect"])]  # fmt: skip
        database = self.database("prefect", "postgresql+asyncpg")
        variables = {
            "PREFECT_SERVER_DATABASE_CONNECTION_URL": database,
            "PREFECT_HOME": str(self.folder / "prefect"),
        }
        return Server(command, self._answers("prefect", "/api/health"), variables)

    def _gateway(self) -> Server:
        gateway = program("prometheus-pushgateway", PROMETHEUS)
        command = [gateway, f"--web.listen-address={HOST}:{self.ports['gateway']}"]
        return Server(command, self._answers("gateway", "/-/ready"))

    def _prometheus(self) -> Server:
        """Prometheus with the repository's configuration, only the address is this gateway's."""
        folder = self.folder / "prometheus"
        shutil.copytree(LOCAL / "prometheus", folder)
        gateway = [f"{HOST}:{self.ports['gateway']}"]
        targets = [{"targets": gateway, "labels": {"job": "gateway"}}]
        (folder / "targets.json").write_text(json.dumps(targets))
        command = [program("prometheus", PROMETHEUS), f"--config.file={folder / 'prometheus.yml'}",
                   f"--storage.tsdb.path={folder / 'data'}",
                   f"--web.listen-address={HOST}:{self.ports['prometheus']}"]  # fmt: skip
        return Server(command, self._answers("prometheus", "/-/ready"))

    def _answers(self, name: str, path: str) -> Callable[[], bool]:
        return partial(processes.answers, self.url(name) + path)


def _run(command: list[str], **options: Any) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, **options)
    assert done.returncode == 0, done.stderr


def _accepts(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) == 0


def _connects(url: str) -> bool:
    import psycopg2

    try:
        psycopg2.connect(url, connect_timeout=2).close()
    except psycopg2.OperationalError:
        return False
    return True


def _create_databases(url: str, names: Iterable[str]) -> None:
    import psycopg2

    connection = psycopg2.connect(url)
    connection.autocommit = True
    with connection.cursor() as cursor:
        for name in names:
            cursor.execute(f'CREATE DATABASE "{name}"')
    connection.close()
