"""MLflow's own tracking API in this process: its server's code without the seconds of its start."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest


def application(store: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """MLflow's application on a copy of an empty store, its artifacts below `folder` too."""
    from mlflow.server import app, constants, handlers
    from mlflow.tracking._model_registry import utils as registry
    from mlflow.tracking._tracking_service import utils as tracking

    shutil.copytree(store, folder)
    monkeypatch.setenv(constants.BACKEND_STORE_URI_ENV_VAR, f"sqlite:///{folder}/mlflow.db")
    monkeypatch.setenv(constants.ARTIFACT_ROOT_ENV_VAR, (folder / "artifacts").as_uri())
    # It names its stores to the whole process.
    for module, name in ((tracking, "_tracking_uri"), (registry, "_registry_uri")):
        monkeypatch.setattr(module, name, getattr(module, name))
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"):
        monkeypatch.setenv(name, "")
    for name in ("_tracking_store", "_model_registry_store"):
        monkeypatch.setattr(handlers, name, None)
    return app


@contextmanager
def served(application: Any) -> Iterator[str]:
    """Answer on a port of this machine; gives the URL."""
    from werkzeug.serving import make_server

    server = make_server("127.0.0.1", 0, application, threaded=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
