"""`python -m flows NAME [--no-register]`: run one flow as a command."""

from __future__ import annotations

import atexit
import gc
import importlib
import sys
from functools import partial
from pathlib import Path

from mlops.core import pipeline, servers
from mlops.core.errors import MENDABLE, nearest

FLOWS = ("training",)
# A trial on a branch ends with its evidence.
TRIAL = "--no-register"


def main() -> None:
    """Run the named flow against this folder's servers, or a temporary Prefect server."""
    names = [name for name in sys.argv[1:] if name != TRIAL]
    if len(names) != 1 or names[0] not in FLOWS:
        found = " ".join(names)
        hint = nearest(found, FLOWS) or f"; known: {', '.join(FLOWS)}"
        print(f"error: flow: found {found!r}, expected one name{hint}", file=sys.stderr)
        sys.exit(MENDABLE)
    # Imports leave no garbage to look for, nor does a process that ends: together half a second.
    gc.set_threshold(100_000)
    atexit.register(gc.freeze)
    # While Prefect is imported, which takes longer, DVC finds out what changed.
    pipeline.ask(Path())
    # Prefect reads its address when it is imported.
    servers.use()
    from flows import screen

    flow = getattr(importlib.import_module(f"flows.{names[0]}"), names[0])
    screen.run(partial(flow, register_model=False) if TRIAL in sys.argv else flow)


if __name__ == "__main__":
    main()
