"""One core for the servers, another for whoever asks them."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.figure import Failed

ALL = sorted(os.sched_getaffinity(0))
SERVER, CLIENT = {ALL[0]}, {ALL[-1]}


def require_two() -> None:
    """Raise Failed where client and server would share a core."""
    if SERVER == CLIENT:
        raise Failed("found one core, expected two: one for the server, one for the client")


@contextmanager
def on(cores: set[int]) -> Iterator[None]:
    """This process, and what it starts meanwhile, on these cores."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
