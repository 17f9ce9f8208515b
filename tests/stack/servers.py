"""The servers of `infra/local/compose.yaml` as processes of this machine, on loopback."""

from __future__ import annotations

import json
import os
import secrets
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from base64 import b64encode
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from shlex import quote
from typing import Any

import psutil

from mlops.base import processes
from mlops.base.processes import HOST
from mlops.pipeline.servers import ENVIRONMENT
from tests.conftest import REPOSITORY
from tests.programs import program

LOCAL = REPOSITORY / "infra/local"
NAMES = ("postgres", "azurite", "mlflow", "prefect", "gateway", "prometheus")
# PostgreSQL refuses to run as root; Debian's package creates this user.
USER: dict[str, Any] = (
    {"user": "postgres", "group": "postgres", "extra_groups": []} if os.geteuid() == 0 else {}
)
PROMETHEUS = "apt-get install prometheus prometheus-alertmanager prometheus-pushgateway"


@contextmanager
def running(*names: str) -> Iterator[Servers]:
    """Some of the servers, until the block ends."""
    # Not below pytest's folders, which PostgreSQL's user can't read.
    base = Path(tempfile.mkdtemp(prefix="mlops-stack-"))
    base.chmod(0o755)
    servers = None
    try:
        servers = Servers(base, names)
        servers.start(*names)
        yield servers
    finally:
        if servers:
            servers.kill(*names)
        shutil.rmtree(base, ignore_errors=True)


@dataclass
class Server:
    """One process: how it is started, and whether it accepts requests."""

    command: str
    ready: Callable[[], bool] = lambda: True
    variables: dict[str, str] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None

    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None


class Servers:
    """All of them. Their data and logs are in `folder`, which every user can read."""

    def __init__(self, folder: Path, names: Sequence[str] = NAMES) -> None:
        self.folder = folder
        self.key = b64encode(secrets.token_bytes(64)).decode()
        named = (*NAMES, "alertmanager", "cosmos")
        sockets = {name: socket.create_server((HOST, 0)) for name in named}
        self.ports = {name: each.getsockname()[1] for name, each in sockets.items()}
        for each in sockets.values():
            each.close()
        self.servers = {name: getattr(self, f"_{name}")() for name in names}

    def start(self, *names: str) -> None:
        """Start those that do not run, all at once, and wait until they accept requests."""
        for name in names:
            server = self.servers[name]
            if not server.running():
                with (self.folder / f"{name}.log").open("ab") as log:
                    server.process = subprocess.Popen(
                        shlex.split(server.command), stdin=subprocess.DEVNULL, stdout=log,
                        stderr=log, env={**os.environ, **self.environment, **server.variables},
                        **{"cwd": self.folder, **server.options},
                    )  # fmt: skip
        for name in names:
            server = self.servers[name]
            # pytest's own timeout ends the wait.
            while not server.ready():
                assert server.running(), self.log(name)
                time.sleep(0.2)

    def start_all(self) -> None:
        """Start everything for the first time, the stores before the servers that use them."""
        self.start("postgres", "azurite")
        for name in ("mlflow", "prefect"):
            self.query(f"CREATE DATABASE {name}")
        processes.run(
            [sys.executable, str(LOCAL / "containers.py")], env={**os.environ, **self.environment}
        )
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

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text()[-6000:]

    def url(self, name: str) -> str:
        return f"http://{HOST}:{self.ports[name]}"

    def query(self, statement: str) -> bool:
        """Execute a statement; false if PostgreSQL does not accept connections."""
        import psycopg2

        try:
            connection = psycopg2.connect(self.database("postgres"), connect_timeout=2)
        except psycopg2.OperationalError:
            return False
        connection.autocommit = True
        connection.cursor().execute(statement)
        connection.close()
        return True

    @property
    def connection_string(self) -> str:
        """What Azure's clients log in to Azurite with."""
        return (
            f"DefaultEndpointsProtocol=http;AccountName=mlops;AccountKey={self.key};"
            f"BlobEndpoint={self.url('azurite')}/mlops;"
        )

    @property
    def environment(self) -> dict[str, str]:
        """The variables that point a program at these servers."""
        return {
            **ENVIRONMENT,
            "MLFLOW_TRACKING_URI": self.url("mlflow"),
            "PREFECT_API_URL": f"{self.url('prefect')}/api",
            "PROMETHEUS_PUSHGATEWAY": self.url("gateway"),
            "AZURE_STORAGE_CONNECTION_STRING": self.connection_string,
        }

    def database(self, name: str) -> str:
        return f"postgresql://mlops@{HOST}:{self.ports['postgres']}/{name}"

    def _answers(self, name: str, path: str) -> Callable[[], bool]:
        return partial(processes.answers, self.url(name) + path)

    def _postgres(self) -> Server:
        folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
        initdb, postgres = (
            program(name, "apt-get install postgresql", *folders) for name in ("initdb", "postgres")
        )
        data = self.folder / "postgres"
        data.mkdir(mode=0o700)
        if USER:
            shutil.chown(data, USER["user"], USER["group"])
        options = "--auth=trust --username=mlops --encoding=UTF8 --no-locale --no-sync"
        processes.run([initdb, f"--pgdata={data}", *options.split()], cwd="/", **USER)
        # No socket file: its path would be too long.
        command = f"{postgres} -D {data} -h {HOST} -p {self.ports['postgres']}"
        command += " -c max_connections=200 -c unix_socket_directories="
        return Server(command, partial(self.query, "SELECT 1"), options=USER)

    def _azurite(self) -> Server:
        folder = LOCAL / "node_modules/.bin"
        command = (
            f"{quote(program('azurite-blob', 'npm ci --prefix infra/local', folder))}"
            f" --blobHost {HOST} --blobPort {self.ports['azurite']}"
            f" --location {self.folder / 'azurite'}"
            " --skipApiVersionCheck --disableTelemetry --silent"
        )
        ready = partial(self._listens, "azurite")
        return Server(command, ready, {"AZURITE_ACCOUNTS": f"mlops:{self.key}"})

    def _cosmos(self) -> Server:
        folder = LOCAL / "node_modules/.bin"
        command = (
            f"{quote(program('cosmosdb-server', 'npm ci --prefix infra/local', folder))}"
            f" --host {HOST} --port {self.ports['cosmos']} --no-ssl"
        )
        return Server(command, partial(self._listens, "cosmos"))

    def _listens(self, name: str) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex((HOST, self.ports[name])) == 0

    def _mlflow(self) -> Server:
        command = (
            f"{quote(sys.executable)} -m mlflow server --host {HOST} --port {self.ports['mlflow']}"
            f" --workers 1 --backend-store-uri {self.database('mlflow')} --serve-artifacts"
            " --artifacts-destination wasbs://mlflow@mlops.blob.core.windows.net/"
        )
        return Server(command, self._answers("mlflow", "/health"))

    def _prefect(self) -> Server:
        options = f"--host {HOST} --port {self.ports['prefect']}"
        variables = {
            "PREFECT_SERVER_DATABASE_CONNECTION_URL": (
                self.database("prefect").replace("postgresql", "postgresql+asyncpg")
            ),
            "PREFECT_HOME": str(self.folder / "prefect"),
        }
        command = f"{quote(sys.executable)} -m prefect server start {options}"
        return Server(command, self._answers("prefect", "/api/health"), variables)

    def _gateway(self) -> Server:
        gateway = program("prometheus-pushgateway", PROMETHEUS)
        command = f"{gateway} --web.listen-address={HOST}:{self.ports['gateway']}"
        return Server(command, self._answers("gateway", "/-/ready"))

    def _prometheus(self) -> Server:
        """Prometheus as it is configured for Compose, except for addresses."""
        folder = self.folder / "prometheus"
        shutil.copytree(LOCAL / "prometheus", folder)
        gateway = {"targets": [f"{HOST}:{self.ports['gateway']}"], "labels": {"job": "gateway"}}
        (folder / "targets.json").write_text(json.dumps([gateway]))
        alertmanager = {"targets": [f"{HOST}:{self.ports['alertmanager']}"]}
        (folder / "alertmanagers.json").write_text(json.dumps([alertmanager]))
        command = (
            f"{quote(program('prometheus', PROMETHEUS))} --config.file={folder / 'prometheus.yml'}"
            f" --storage.tsdb.path={folder / 'data'}"
            f" --web.listen-address={HOST}:{self.ports['prometheus']}"
        )
        return Server(command, self._answers("prometheus", "/-/ready"))

    def _alertmanager(self) -> Server:
        """Alertmanager, as the variables ALERT_* of this process configure it."""
        file = self.folder / "alertmanager.yml"
        file.write_text(processes.run([sys.executable, str(LOCAL / "alertmanager.py")]))
        command = (
            f"{quote(program('prometheus-alertmanager', PROMETHEUS))} --config.file={file}"
            f" --storage.path={self.folder / 'alertmanager'} --cluster.listen-address="
            f" --web.listen-address={HOST}:{self.ports['alertmanager']}"
        )
        return Server(command, self._answers("alertmanager", "/-/ready"))
