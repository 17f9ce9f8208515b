"""`python -m flows NAME [--no-register] [KEY=VALUE …]`: run one flow as a command.

`deploy` registers the deployments of `prefect.yaml` on the Prefect server, `worker` runs them when
they are due, `check` validates `prefect.yaml`.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

from flows import temporary_server
from mlops.base.errors import MENDABLE, UserError, nearest
from mlops.contract import params
from mlops.gitops import check
from mlops.pipeline import dependencies, reproduction, servers, stage

TRAINING = "training"
FLOWS = (TRAINING, "retraining", "monitoring", "scoring", "reconcile_check", "databricks_job")
# Commands that need a permanent server.
SERVICES = ("deploy", "worker")
CHECK = "check"
ROOT = Path()
# Of a trial on a branch only the evidence is needed.
NO_REGISTER = "--no-register"


def main() -> None:
    """Run the named flow against this folder's servers, or a temporary Prefect server."""
    names = [word for word in sys.argv[1:] if word != NO_REGISTER and "=" not in word]
    commands = (*FLOWS, *SERVICES, CHECK)
    if len(names) != 1 or names[0] not in commands:
        given = " ".join(names)
        hint = nearest(given, commands) or f"; known: {', '.join(commands)}"
        print(f"error: flow: found {given!r}, expected one name{hint}", file=sys.stderr)
        sys.exit(MENDABLE)
    sys.exit(stage.guarded(partial(_flow if names[0] in FLOWS else _run, names[0])))


def _flow(name: str) -> None:
    dependencies.require_own_code(ROOT)
    with _ready() if name == TRAINING else nullcontext():
        servers.use()
        temporary_server.start_where_needed(ROOT)
        from flows import screen

        flow = getattr(importlib.import_module(f"flows.{name}"), name)
        parameters: dict[str, Any] = dict(w.split("=", 1) for w in sys.argv[1:] if "=" in w)
        if name == TRAINING:
            parameters = {"register_model": False} if NO_REGISTER in sys.argv else {}
        screen.run(partial(flow, **parameters), summarized=name == TRAINING)


@contextmanager
def _ready() -> Iterator[None]:
    """Lock the workspace before a server is started; raise UserError for what would stop it."""
    # Skip the garbage collection at exit, which costs time and can crash DuckDB.
    atexit.register(gc.freeze)
    settings = params.load_all(ROOT)
    dependencies.require_present(settings.project, ROOT)
    with reproduction.alone(ROOT):
        # DVC reads the file too, with less helpful errors.
        check.declarations(ROOT)
        yield


def _run(name: str) -> None:
    dependencies.require_own_code(ROOT)
    servers.use()
    if name in SERVICES and "PREFECT_API_URL" not in os.environ:
        raise UserError("PREFECT_API_URL: not set; `make up` starts a server here")
    importlib.import_module(f"flows.{name}").run()


if __name__ == "__main__":
    main()
