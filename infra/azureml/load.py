"""Load jobs with Azure ML's own loader: python load.py FILE...; run by requirements.lock's Python.

The exit code is 1, and each line names a file and what is wrong, unless it accepts all of them.
"""

from __future__ import annotations

import logging
import sys
from typing import Any


def fault(path: str) -> str:
    """What the loader refuses in a file, "" for nothing."""
    from azure.ai.ml import load_job  # type: ignore[import-untyped]

    try:
        job: Any = load_job(path)
        # A pipeline's own check of its steps, before anything is sent; AutoML jobs have none.
        found = job._validate() if hasattr(job, "_validate") else None
        return "" if found is None or found.passed else str(found.error_messages)
    except Exception as error:
        # It fails to print what it refuses of a pipeline's steps.
        cause = error.__context__ if isinstance(error, TypeError) else None
        return str(cause or error) or type(error).__name__


if __name__ == "__main__":
    # It names each of its classes that are experimental.
    logging.disable(logging.WARNING)
    faults = {path: fault(path) for path in sys.argv[1:]}
    for path, reason in faults.items():
        if reason:
            print(f"{path}: {' '.join(reason.split())}", file=sys.stderr)
    sys.exit(any(faults.values()))
