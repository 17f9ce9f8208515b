"""The service as processes: Granian in front, one or several workers, signals."""

from __future__ import annotations

import gc
import logging
import multiprocessing
import os
import resource
import signal
import socket
import tempfile
import threading
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from mlops.base.errors import UserError
from mlops.serving import logs
from mlops.serving.settings import COUNTERS, Settings, parse
from mlops.serving.settings import TOKEN as TOKEN

if TYPE_CHECKING:
    from granian.server import MPServer

    from mlops.serving.app import App

# Bytes of a request's line and headers.
HEAD = 64 * 1024
# Files that a worker needs beside its connections.
FILES = 128
log = logging.getLogger("mlops.serving")


def main(
    arguments: Sequence[str], fetched: Callable[[str], tuple[Path, str]] | None = None
) -> None:
    """Serve until told to stop; `fetched` gives the folder and the version of a model's URI."""
    settings = parse(arguments, os.environ.get(TOKEN))
    if ":/" in settings.bundle:
        if fetched is None:
            raise UserError(
                f"{settings.bundle}: expected a folder; `mlops serve` takes a model's URI"
            )
        folder, version = fetched(settings.bundle)
        settings = replace(settings, bundle=str(folder), version=settings.version or version)
    logs.configure()
    with _counters() if settings.workers > 1 else nullcontext("") as counters:
        if counters:
            os.environ[COUNTERS] = counters
        # Raise here, in one line, what would keep each worker from starting.
        application(settings)
        gc.collect()
        _serve(_with_free_port(settings))


def application(settings: Settings) -> App:
    """A worker's application; raises UserError when the bundle does not run here."""
    from mlops.serving.app import App
    from mlops.serving.service import Service

    # Imports leave no garbage to look for, and requests little.
    gc.set_threshold(100_000)
    return App(Service(settings))


def worker(settings: Settings) -> App:
    """The application in a process of its own, which ends with the one that started it."""
    logs.configure()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    return application(settings)


def _serve(settings: Settings) -> None:
    from granian.constants import HTTPModes, Interfaces, Loops
    from granian.http import HTTP1Settings
    from granian.log import LogLevels
    from granian.server import MPServer

    idle = int(settings.idle_timeout * 1000)
    server = MPServer(
        "mlops.serving", address=settings.host, port=settings.port, interface=Interfaces.RSGI,
        workers=settings.workers, http=HTTPModes.http1, websockets=False, loop=Loops.uvloop,
        http1_settings=HTTP1Settings(header_read_timeout=idle, max_buffer_size=HEAD),
        backlog=2048, backpressure=_connections(settings.connections),
        respawn_failed_workers=True, workers_kill_timeout=30,
        log_level=LogLevels.warning, log_dictconfig=logs.GRANIAN,
    )  # fmt: skip
    if settings.drain:
        server.on_startup(lambda: _drain_first(server, settings.drain))
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    log.info("serving", extra={
        "bundle": settings.bundle, "url": f"http://{host}:{settings.port}", "pid": os.getpid(),
    })  # fmt: skip
    server.serve(target_loader=partial(worker, settings), wrap_loader=False)  # type: ignore[arg-type]


def _drain_first(server: MPServer, seconds: float) -> None:
    """Have SIGTERM make the workers unready, and stop them only later; a second one stops them."""
    from mlops.serving.app import UNREADY

    stop: Callable[[], None] = server.signal_handler_interrupt
    draining = threading.Event()

    def drain(number: int, frame: FrameType | None) -> None:
        if draining.is_set():
            stop()
            return
        draining.set()
        for process in multiprocessing.active_children():
            os.kill(process.ident or 0, UNREADY)
        timer = threading.Timer(seconds, stop)
        timer.daemon = True
        timer.start()

    # A worker that is just starting must not die of it.
    signal.signal(UNREADY, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, drain)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)


def _counters() -> tempfile.TemporaryDirectory[str]:
    """A folder in which several workers count together."""
    try:
        return tempfile.TemporaryDirectory(prefix="mlops-serving-")
    except OSError:
        raise UserError(
            "TMPDIR: found no folder to write in, expected one for several workers' counters"
        ) from None


def _with_free_port(settings: Settings) -> Settings:
    """The address to listen on, resolved; raises UserError when it is taken.

    Granian listens with SO_REUSEPORT, and would share the port with another one.
    """
    host, port = settings.host, settings.port
    try:
        family = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM)[0][0]
        with socket.create_server((host, port), family=family) as probe:
            host, port = probe.getsockname()[:2]
    except (OSError, OverflowError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise UserError(f"{host}:{port}: can't listen there: {reason}") from None
    return replace(settings, host=host, port=port)


def _connections(wanted: int) -> int:
    """As many as wanted, or as the system has files for: the soft limit is for other programs."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return wanted if most == resource.RLIM_INFINITY else max(1, min(wanted, most - FILES))
