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
from functools import partial
from pathlib import Path
from typing import Any

from mlops.base.errors import MENDABLE, UserError, nearest
from mlops.gitops import check
from mlops.pipeline import servers, stage

TRAINING = "training"
FLOWS = (TRAINING, "retraining", "monitoring", "scoring", "reconcile_check")
# Commands that need a permanent server.
SERVICES = ("deploy", "worker")
CHECK = "check"
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
    stage.begin()
    name = names[0]
    if name == TRAINING:
        # A misspelt parameter or declaration is reported before a server is started.
        if code := stage.guarded(lambda: check.declarations(Path())):
            sys.exit(code)
        # Skip the garbage collection at exit, which costs time and can crash DuckDB.
        atexit.register(gc.freeze)
    # Prefect reads its address when it is imported.
    servers.use()
    if name in FLOWS:
        _flow(name)
    else:
        sys.exit(stage.guarded(partial(_run, name)))


def _flow(name: str) -> None:
    from flows import screen

    flow = getattr(importlib.import_module(f"flows.{name}"), name)
    parameters: dict[str, Any] = dict(word.split("=", 1) for word in sys.argv[1:] if "=" in word)
    if name == TRAINING:
        parameters = {"register_model": False} if NO_REGISTER in sys.argv else {}
    screen.run(partial(flow, **parameters), summarized=name == TRAINING)


def _run(name: str) -> None:
    if name in SERVICES and "PREFECT_API_URL" not in os.environ:
        raise UserError("PREFECT_API_URL: not set; `make up` starts a server here")
    importlib.import_module(f"flows.{name}").run()


if __name__ == "__main__":
    main()
