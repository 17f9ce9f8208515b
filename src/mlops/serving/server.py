"""The service as a process: options, workers, signals."""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import msgspec
import uvicorn

from mlops.core.errors import UserError
from mlops.serving import logs
from mlops.serving.place import Place
from mlops.serving.settings import Settings

if TYPE_CHECKING:
    from mlops.serving.app import App

# How a worker is told what its parent was told.
TOLD = "MLOPS_SERVING"
TOKEN = "MLOPS_SERVING_TOKEN"
SHARED = "PROMETHEUS_MULTIPROC_DIR"
LOOPBACK = "127.0.0.1"
LIMITS = ("rows", "body", "requests", "waiting", "patience", "threads", "sample", "size", "kept")


@dataclass(frozen=True)
class Told:
    """What the command line said."""

    bundle: str
    version: str
    host: str
    port: int
    workers: int
    drain: float
    settings: Settings


def options() -> argparse.ArgumentParser:
    """The command line."""
    default = Settings()
    parser = argparse.ArgumentParser(
        prog="mlops serve", description="Serve a bundle over HTTP.", allow_abbrev=False,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        epilog=f"The environment's {TOKEN} is the bearer token that clients must send.",
    )  # fmt: skip
    parser.add_argument("bundle", help="a bundle's folder, a file that names one, or a model's URI")
    parser.add_argument("--version", default="", help="what the registry calls it")
    parser.add_argument("--host", default=LOOPBACK, help="the address to listen on")
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--workers", type=int, default=1, help="processes")
    parser.add_argument("--drain", type=float, default=0.0,
                        help="seconds to be unready, and to serve on, before the end")  # fmt: skip
    parser.add_argument("--samples", type=Path, help="a folder for what was asked and answered")
    said = {
        "rows": "most rows in a request", "body": "most bytes in a request",
        "requests": "most requests under way", "waiting": "most rows that wait for a thread",
        "patience": "seconds to wait for a body", "threads": "of each run of the model",
        "sample": "share of the requests that is kept", "size": "bytes of a file of samples",
        "kept": "files of samples",
    }  # fmt: skip
    for name in LIMITS:
        value = getattr(default, name)
        parser.add_argument(f"--{name}", type=type(value), default=value, help=said[name])
    return parser


def main(
    arguments: Sequence[str], fetched: Callable[[str], tuple[Path, str]] | None = None
) -> None:
    """Serve until told to stop; `fetched` makes a folder and a version of a model's URI.

    Raises UserError when there is no such bundle, or it does not run here.
    """
    given = vars(options().parse_args(arguments))
    limits = {name: given.pop(name) for name in (*LIMITS, "samples")}
    settings = Settings(**limits, token=os.environ.get(TOKEN, ""))
    told = Told(**given, settings=settings)
    if ":/" in told.bundle:
        if fetched is None:
            raise UserError(f"{told.bundle}: expected a folder; `mlops serve` takes a model's URI")
        place, version = fetched(told.bundle)
        told = replace(told, bundle=str(place), version=told.version or version)
    logs.configure()
    _run(told)


def application() -> App:
    """A worker's application, as its parent was told."""
    from mlops.serving.app import App
    from mlops.serving.service import Service

    logs.configure()
    told = msgspec.json.decode(os.environ[TOLD], type=Told)
    return App(Service(Place(Path(told.bundle), told.version), told.settings))


class Server(uvicorn.Server):
    """One that is unready for a while before it stops, so that nobody is sent here any more."""

    def __init__(self, config: uvicorn.Config, app: App, drain: float) -> None:
        super().__init__(config)
        self.app = app
        self.drain = drain

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop later; a second signal stops at once."""
        if self.app.service.stopping or not self.drain:
            super().handle_exit(sig, frame)
            return
        self.app.service.stopping = True
        asyncio.get_event_loop().call_later(self.drain, super().handle_exit, sig, frame)


def _run(told: Told) -> None:
    os.environ[TOLD] = msgspec.json.encode(asdict(told), enc_hook=str).decode()
    if told.workers == 1:
        app = application()
        Server(_config(app, told), app, told.drain).run()
        return
    shared = tempfile.mkdtemp(prefix="mlops-serving-")
    os.environ[SHARED] = shared
    try:
        uvicorn.run(**_options(told), app="mlops.serving.server:application", factory=True,
                    workers=told.workers)  # fmt: skip
    finally:
        shutil.rmtree(shared, ignore_errors=True)


def _config(app: App, told: Told) -> uvicorn.Config:
    return uvicorn.Config(app, **_options(told))


def _options(told: Told) -> dict[str, Any]:
    return {
        "host": told.host, "port": told.port, "loop": "uvloop", "http": "httptools",
        "lifespan": "on", "access_log": False, "log_config": None, "server_header": False,
        "timeout_keep_alive": 75, "timeout_graceful_shutdown": 30, "backlog": 2048,
    }  # fmt: skip
