"""`python -m benchmarks [NAME ...]`: measure, print each figure beside its goal, judge.

Everything runs in temporary copies of this repository; nothing of yours is touched. Exits 1 when
a figure falls short of its goal or a benchmark fails.
"""

from __future__ import annotations

import argparse
import importlib
import os
import signal
import sys
import traceback
from dataclasses import replace

from benchmarks.figure import QUICK, Failed, Plan, progress

NAMES = ("flow", "unchanged", "engines", "scale", "search", "gate", "batch", "monitoring", "size")


def main() -> int:
    """Run the benchmarks asked for, all when none is; the exit code."""
    parser = argparse.ArgumentParser("python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)}")
    parser.add_argument("--quick", action="store_true", help="small sizes; judges nothing")
    asked = parser.parse_args()
    if unknown := set(asked.names) - set(NAMES):
        parser.error(f"found {', '.join(sorted(unknown))}; expected of {', '.join(NAMES)}")
    # A benchmark that is stopped ends as one that failed: servers down, folders gone.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    plan = QUICK if asked.quick else Plan()
    try:
        good = [_run(name, plan) for name in asked.names or NAMES]
    except BrokenPipeError:
        # Whoever read the figures has closed the pipe; Python flushes once more at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    progress("done")
    return 0 if all(good) else 1


def _run(name: str, plan: Plan) -> bool:
    """Print a benchmark's figures as they come; whether all of them are good."""
    good = True
    try:
        for figure in importlib.import_module(f"benchmarks.{name}").measure(plan):
            print(figure.line if plan.judges else replace(figure, reached=None).line, flush=True)
            good &= figure.reached is not False or not plan.judges
    except BrokenPipeError:
        raise
    except Exception as error:
        if not isinstance(error, Failed):
            traceback.print_exc()
        print(f"{name}: failed: {' '.join(str(error).split())}", flush=True)
        return False
    return good


if __name__ == "__main__":
    sys.exit(main())
