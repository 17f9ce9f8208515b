"""`python -m benchmarks.serving`: the service against its rivals, on one core each.

Serves the bundle in `models/bundle`, which `make train` makes. Exits 1 when a figure falls short
of its goal or can't be measured. The machine needs two cores that nothing else uses.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from benchmarks.figure import Failed, progress
from benchmarks.serving import figures, machine, rows
from benchmarks.serving.contest import QUICK, Plan
from benchmarks.serving.servers import Stand
from benchmarks.workspace import REPOSITORY
from mlops.base.errors import UserError
from mlops.contract import bundle
from mlops.contract.paths import BUNDLE


def main() -> int:
    """Measure and print; the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.serving", description="Load the service and its rivals."
    )
    parser.add_argument(
        "--quick", action="store_true", help="short rounds: shows that all works, judges nothing"
    )
    plan = QUICK if parser.parse_args().quick else Plan()
    # Servers must not outlive a benchmark that is stopped.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        good = _measure(plan)
    except (Failed, UserError) as error:
        print(f"serving: failed: {' '.join(str(error).split())}", flush=True)
        return 1
    progress("done")
    return 0 if good else 1


def _measure(plan: Plan) -> bool:
    """Print the figures as they come; whether all of them are good."""
    machine.require_two()
    os.sched_setaffinity(0, machine.CLIENT)
    source = REPOSITORY / BUNDLE
    asked = rows.read(source)
    good = True
    with tempfile.TemporaryDirectory(prefix="mlops-bench-") as folder:
        stand = Stand(source, Path(folder), bundle.read_card(source).name)
        for figure in figures.measure(stand, asked, plan):
            judged = figure if plan.judges else replace(figure, reached=None)
            print(judged.line, flush=True)
            good = good and judged.reached is not False
    return good


if __name__ == "__main__":
    sys.exit(main())
