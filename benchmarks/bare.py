"""The stage functions in one process: no flow, no DVC; what the flow is measured against."""

from __future__ import annotations

import importlib
from pathlib import Path

from mlops.contract import params
from mlops.contract.stages import MADE_BY_DVC, MODULES
from mlops.pipeline import servers

if __name__ == "__main__":
    # Both sides track to the same kind of server.
    servers.use()
    for name in (*MADE_BY_DVC, "register"):
        stage = importlib.import_module(MODULES[name])
        result = stage.run(params.load_all(), Path())
        print(name, result.model_dump_json(), flush=True)
