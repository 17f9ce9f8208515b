"""`python -m mlops.deploy.local.worker BUNDLE …`: the service, which ends with its parent."""

from __future__ import annotations

import os
import runpy
import signal
import sys
import threading


def _end_with_parent() -> None:
    """Wait for the end of standard input: its pipe closes when the parent ends, however it does."""
    os.read(sys.stdin.fileno(), 1)
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    threading.Thread(target=_end_with_parent, daemon=True).start()
    runpy.run_module("mlops.serving", run_name="__main__")
