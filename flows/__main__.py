"""`python -m flows NAME`: run one flow as a command."""

from __future__ import annotations

import atexit
import gc
import importlib
import sys
from pathlib import Path

from mlops.core import pipeline, servers
from mlops.core.errors import MENDABLE, nearest

FLOWS = ("training",)


def main() -> None:
    """Run the named flow against this folder's servers, or a temporary Prefect server."""
    names = sys.argv[1:]
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

    screen.run(getattr(importlib.import_module(f"flows.{names[0]}"), names[0]))


if __name__ == "__main__":
    main()
