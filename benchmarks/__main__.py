"""`python -m benchmarks [NAME ...]`: measure, print each figure beside its goal, judge.

Everything runs in temporary copies of this repository; nothing of yours is touched. Exits 1 when
a figure falls short of its goal or a benchmark fails.
"""

from __future__ import annotations

import argparse
import importlib
import signal
import sys
import traceback

from benchmarks.figure import Failed, progress

NAMES = (
    *("flow", "engines", "search", "scale", "memory", "sql", "gate", "batch", "predict"),
    *("monitoring", "coverage", "size", "cost"),
)


def main() -> int:
    """Run the benchmarks asked for, all when none is; the exit code."""
    parser = argparse.ArgumentParser("python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)}")
    asked = parser.parse_args()
    if unknown := set(asked.names) - set(NAMES):
        parser.error(f"found {', '.join(sorted(unknown))}; expected of {', '.join(NAMES)}")
    # A benchmark that is stopped ends as one that failed: servers down, folders gone.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    good = [_run(name) for name in asked.names or NAMES]
    progress("done")
    return 0 if all(good) else 1


def _run(name: str) -> bool:
    """Print a benchmark's figures as they come; whether all of them are good."""
    good = True
    try:
        for figure in importlib.import_module(f"benchmarks.{name}").measure():
            print(figure.line, flush=True)
            good &= figure.reached is not False
    except Exception as error:
        if not isinstance(error, Failed):
            traceback.print_exc()
        print(f"{name}: failed: {' '.join(str(error).split())}", flush=True)
        return False
    return good


if __name__ == "__main__":
    sys.exit(main())
