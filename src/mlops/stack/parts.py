"""What each process of the stack is: its command, how it is known to be ready, what follows."""

from __future__ import annotations

import os
import shutil
import socket
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from mlops.base import processes
from mlops.base.errors import UserError
from mlops.base.processes import HOST
from mlops.contract.paths import BUNDLE
from mlops.pipeline import servers
from mlops.stack import containers, metrics, postgres
from mlops.stack.home import ACCOUNT, Home

WORKER = Path(".run/worker")


def _nothing() -> None:
    pass


@dataclass(frozen=True)
class Part:
    """A process. `ready` says whether it answers, `then` does what it needs the first time."""

    name: str
    command: tuple[str, ...]
    address: str
    ready: Callable[[], bool]
    variables: Mapping[str, str] = field(default_factory=dict)
    then: Callable[[], None] = _nothing
    user: str | None = None

    def environment(self) -> dict[str, str]:
        """This process' variables, over those of whoever starts it."""
        return {**os.environ, **servers.ENVIRONMENT, **self.variables}


def waves(home: Home) -> Iterator[list[Part]]:
    """The stack's processes, a wave needing those before it."""
    yield [postgres.part(home), azurite(home)]
    service = [scoring(home)] if (home.root / BUNDLE).is_dir() else []
    yield [mlflow(home), prefect(home), metrics.gateway(home), metrics.prometheus(home), *service]
    yield [worker(home)]


def program(name: str, how: str, *places: Path) -> str:
    """Where a program is; raises UserError with how it is got."""
    searched = os.pathsep.join([*map(str, places), os.environ.get("PATH", "")])
    found = shutil.which(name, path=searched)
    if found is None:
        raise UserError(f"{name}: not found on the PATH; {how}")
    return found


def azurite(home: Home) -> Part:
    """Azure's Blob API: DVC's remote and MLflow's artifacts."""
    how = "`npm ci --prefix infra/local` installs it"
    found = program("azurite-blob", how, home.root / "infra/local/node_modules/.bin")
    port = home.ports["azurite"]
    return Part(
        "azurite",
        (found, "--blobHost", HOST, "--blobPort", str(port), "--location",
         str(home.folder / "azurite"), "--skipApiVersionCheck", "--disableTelemetry", "--silent"),
        home.url("azurite"),
        partial(listens, port),
        {"AZURITE_ACCOUNTS": f"{ACCOUNT}:{home.key}"},
        partial(containers.make, home.storage),
    )  # fmt: skip


def mlflow(home: Home) -> Part:
    """Tracking and registry on PostgreSQL; who tracks needs no key of the store."""
    return Part(
        "mlflow",
        (sys.executable, "-m", "mlflow", "server", "--host", HOST, "--port",
         str(home.ports["mlflow"]), "--workers", "1", "--serve-artifacts"),
        home.url("mlflow"),
        partial(processes.answers, home.url("mlflow") + "/health"),
        {
            "MLFLOW_BACKEND_STORE_URI": home.database("mlflow"),
            "MLFLOW_ARTIFACTS_DESTINATION": f"wasbs://mlflow@{ACCOUNT}.blob.core.windows.net/",
            "AZURE_STORAGE_CONNECTION_STRING": home.storage,
        },
    )  # fmt: skip


def prefect(home: Home) -> Part:
    """Schedules, runs, events, automations, on PostgreSQL."""
    return Part(
        "prefect",
        (sys.executable, "-m", "prefect", "server", "start", "--host", HOST, "--port",
         str(home.ports["prefect"])),
        home.url("prefect"),
        partial(processes.answers, home.url("prefect") + "/api/health"),
        {
            "PREFECT_SERVER_DATABASE_CONNECTION_URL": home.database(
                "prefect", "postgresql+asyncpg"
            ),
            "PREFECT_HOME": str(home.folder / "prefect"),
        },
    )  # fmt: skip


def scoring(home: Home) -> Part:
    """The service, with the bundle in the workspace."""
    port = home.ports["scoring"]
    return Part(
        "scoring",
        (sys.executable, "-m", "mlops.serving", str(home.root / BUNDLE), "--host", HOST,
         "--port", str(port), "--samples", str(home.folder / "samples")),
        home.url("scoring"),
        partial(processes.answers, home.url("scoring") + "/v2/health/ready"),
    )  # fmt: skip


def worker(home: Home) -> Part:
    """Whoever runs what is due."""
    (home.root / WORKER).mkdir(parents=True, exist_ok=True)
    return Part(
        "worker",
        (sys.executable, "-m", "flows", "worker"),
        "pool process",
        lambda: True,
        home.environment(),
    )


def listens(port: int) -> bool:
    """Whether somebody takes connections there."""
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) == 0
