"""The stage functions in one process: no flow, no DVC; what the flow is measured against."""

from __future__ import annotations

import importlib
from pathlib import Path

from mlops.contract import params
from mlops.pipeline import servers
from mlops.pipeline.reproduction import STAGES

if __name__ == "__main__":
    # Both sides track to the same kind of server.
    servers.use()
    for name in (*STAGES, "register"):
        stage = importlib.import_module(f"mlops.stages.{name}")
        print(stage.run(params.load(), Path()).line, flush=True)
