"""The service as a process: options, workers, signals."""

from __future__ import annotations

import argparse
import gc
import logging
import os
import re
import resource
import socket
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import uvicorn
from uvicorn.supervisors import Multiprocess

from mlops.base.errors import UserError
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
LIMITS = (
    "rows", "body", "bodies", "requests", "waiting", "patience", "drain", "threads",
    "sample", "size", "kept",
)  # fmt: skip
BOUNDS: dict[str, tuple[float, float | None]] = {
    "waiting": (0, None), "patience": (0.1, None), "drain": (0, None), "sample": (0, 1),
    # The file that is written, and one that was.
    "kept": (2, None),
}  # fmt: skip
BACKLOG = 2048
log = logging.getLogger("mlops.serving")


@dataclass(frozen=True)
class Told:
    """What the command line said."""

    bundle: str
    version: str
    host: str
    port: int
    workers: int
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
    parser.add_argument("--version", type=_word, default="", help="what the registry calls it")
    parser.add_argument("--host", default=LOOPBACK, help="the address to listen on")
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--workers", type=_from(int, 1, None), default=1, help="processes")
    parser.add_argument("--samples", type=Path, help="a folder for what was asked and answered")
    said = {
        "rows": "most rows in a request", "body": "most bytes in a request",
        "bodies": "most bytes of bodies that arrive at once",
        "requests": "most requests under way", "waiting": "most rows that wait for a thread",
        "patience": "seconds to wait for a body", "threads": "of each run of the model",
        "drain": "seconds to be unready, and to serve on, before the end",
        "sample": "share of the requests that is kept", "size": "bytes of a file of samples",
        "kept": "files of samples",
    }  # fmt: skip
    for name in LIMITS:
        value = getattr(default, name)
        kind = _from(type(value), *BOUNDS.get(name, (1, None)))
        parser.add_argument(f"--{name}", type=kind, default=value, help=said[name])
    return parser


def _word(text: str) -> str:
    """What fits into a header of HTTP and into a path."""
    if not re.fullmatch(r"[\w.-]*", text, re.ASCII):
        raise argparse.ArgumentTypeError(f"found {text!r}, expected letters, digits, '.', '-', '_'")
    return text


def _from(kind: type[Any], least: float, most: float | None) -> Callable[[str], Any]:
    """Reads a number of the kind that lies between the two."""

    def number(text: str) -> Any:
        value = kind(text)
        if value < least or (most is not None and value > most):
            span = f"{least} or more" if most is None else f"{least} to {most}"
            raise argparse.ArgumentTypeError(f"found {text}, expected {span}")
        return value

    return number


def main(
    arguments: Sequence[str], fetched: Callable[[str], tuple[Path, str]] | None = None
) -> None:
    """Serve until told to stop; `fetched` makes a folder and a version of a model's URI.

    Raises UserError when there is no such bundle, or it does not run here.
    """
    # Imports leave no garbage to look for, and requests little.
    gc.set_threshold(100_000)
    given = vars(options().parse_args(arguments))
    limits = {name: given.pop(name) for name in (*LIMITS, "samples")}
    told = Told(**given, settings=Settings(**limits))
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
    told = msgspec.json.decode(os.environ[TOLD], type=Told, dec_hook=_path)
    token = os.environ.get(TOKEN, "")
    if token and not token.strip():
        raise UserError(f"{TOKEN}: found blanks, expected a token")
    settings = replace(told.settings, token=token)
    return App(Service(Place(Path(told.bundle), told.version), settings))


def _path(kind: type[Path], value: str) -> Path:
    return kind(value)


def _run(told: Told) -> None:
    _allow_many_connections()
    os.environ[TOLD] = msgspec.json.encode(asdict(told), enc_hook=str).decode()
    from mlops.serving.shortcut import Shortcut

    config = uvicorn.Config(
        "mlops.serving.server:application", factory=True, workers=told.workers,
        loop="uvloop", http=Shortcut, ws="none", lifespan="on", access_log=False, log_config=None,
        proxy_headers=False, server_header=False, timeout_keep_alive=75,
        timeout_graceful_shutdown=30,
    )  # fmt: skip
    listening = _listening(told.host, told.port)
    if told.workers == 1:
        app = application()
        config.app, config.factory = app, False
        log.info("serving", extra=_about(told, listening))
        uvicorn.Server(config).run(sockets=[listening])
        return
    # What keeps one worker from starting would have the others start it again and again.
    application()
    with _shared() as shared:
        os.environ[SHARED] = shared
        log.info("serving", extra=_about(told, listening))
        Multiprocess(config, sockets=[listening]).run()


def _shared() -> tempfile.TemporaryDirectory[str]:
    """Where workers count together."""
    try:
        return tempfile.TemporaryDirectory(prefix="mlops-serving-")
    except OSError:
        raise UserError(
            "TMPDIR: found no folder to write in, expected one where several workers count"
        ) from None


def _listening(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except (OSError, OverflowError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise UserError(f"{host}:{port}: can't listen there: {reason}") from None
    listening.listen(BACKLOG)
    listening.set_inheritable(True)
    return listening


def _allow_many_connections() -> None:
    """Each connection is a file: the shell's soft limit is meant for other programs."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _about(told: Told, listening: socket.socket) -> dict[str, Any]:
    host, port = listening.getsockname()[:2]
    named = f"[{host}]" if ":" in host else host
    return {"bundle": told.bundle, "url": f"http://{named}:{port}", "pid": os.getpid()}
