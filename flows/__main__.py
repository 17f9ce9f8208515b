"""`python -m flows NAME [--no-register] [KEY=VALUE …]`: run one flow as a command.

`deploy` registers what `prefect.yaml` says on the Prefect server, `worker` runs what is due there.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from mlops.base.errors import MENDABLE, UserError, nearest
from mlops.contract import params
from mlops.pipeline import reproduction, servers, stage

TRAINING = "training"
FLOWS = (TRAINING, "retraining", "monitoring", "scoring", "reconcile_check")
# What needs a server that stays.
SERVICES = ("deploy", "worker")
CHECK = "check"
# A trial on a branch ends with its evidence.
TRIAL = "--no-register"


def main() -> None:
    """Run the named flow against this folder's servers, or a temporary Prefect server."""
    names = [word for word in sys.argv[1:] if word != TRIAL and "=" not in word]
    known = (*FLOWS, *SERVICES, CHECK)
    if len(names) != 1 or names[0] not in known:
        found = " ".join(names)
        hint = nearest(found, known) or f"; known: {', '.join(known)}"
        print(f"error: flow: found {found!r}, expected one name{hint}", file=sys.stderr)
        sys.exit(MENDABLE)
    # Prefect is imported before any command is.
    stage.begin()
    if names[0] == TRAINING:
        # What is misspelt is said before a server has been started for it.
        if code := stage.guarded(_check):
            sys.exit(code)
        # A process that ends leaves no garbage to look for either; DuckDB would miss what it made.
        atexit.register(gc.freeze)
        # While Prefect is imported, which takes longer, DVC finds out what changed.
        reproduction.start_status(Path())
    # Prefect reads its address when it is imported.
    servers.use()
    if names[0] == CHECK:
        sys.exit(stage.guarded(_check_deployments))
    if names[0] in SERVICES:
        sys.exit(stage.guarded(partial(_serve, names[0])))
    _flow(names[0])


def _check() -> None:
    params.load_all(Path())


def _check_deployments() -> None:
    from flows import check

    check.run()


def _flow(name: str) -> None:
    from flows import screen

    flow = getattr(importlib.import_module(f"flows.{name}"), name)
    parameters = dict(word.split("=", 1) for word in sys.argv[1:] if "=" in word)
    if name == TRAINING:
        screen.run(partial(flow, register_model=False) if TRIAL in sys.argv else flow)
    else:
        screen.run(partial(flow, **parameters), summarized=False)


def _serve(name: str) -> None:
    if "PREFECT_API_URL" not in os.environ:
        raise UserError("PREFECT_API_URL: not set; `make up` starts a server here")
    run: Callable[[], None] = importlib.import_module(f"flows.{name}").run
    run()


if __name__ == "__main__":
    main()
