"""A closed loop of connections, each of which sends the next request when it has its answer.

Requests are rendered before the clock, but for an id of its own that each has. Every answer's
status is checked, and of every hundredth the probability, after the clock.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from dataclasses import dataclass, field
from typing import Any

import uvloop

from benchmarks.figure import Failed
from benchmarks.serving.requests import Requests

ANSWER_SECONDS = 60.0
CHECKED = 100


def drive(port: int, requests: Requests, connections: int, seconds: float) -> tuple[int, float]:
    """Send requests for so many seconds; returns their number and the seconds until the last
    answer. Raises Failed for a wrong answer, or for none."""
    load = _Load(requests, connections)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(load.drive(port, seconds))
    for place, body in load.sampled:
        requests.check(place, body)
    return load.count, load.took


@dataclass
class _Load:
    """What the connections share."""

    requests: Requests
    connections: int
    count: int = 0
    end: float = 0.0
    took: float = 0.0
    sampled: list[tuple[int, bytes]] = field(default_factory=list)

    async def drive(self, port: int, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        self.numbers = itertools.count()
        self.open, self.done = self.connections, loop.create_future()
        begin = time.perf_counter()
        self.end = begin + seconds
        for _ in range(self.connections):
            await loop.create_connection(lambda: _Connection(self), "127.0.0.1", port)
        try:
            await asyncio.wait_for(self.done, seconds + ANSWER_SECONDS)
        except TimeoutError:
            raise Failed(f"{self.open} of {self.connections} connections unanswered") from None
        self.took = time.perf_counter() - begin

    def fail(self, reason: str) -> None:
        if not self.done.done():
            self.done.set_exception(Failed(reason))


class _Connection(asyncio.Protocol):
    """One client."""

    def __init__(self, load: _Load) -> None:
        self.load = load
        self.received = b""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.send()

    def send(self) -> None:
        number = next(self.load.numbers)
        self.place = number % len(self.load.requests.rendered)
        before, after = self.load.requests.rendered[self.place]
        self.transport.write(b"%s%012d%s" % (before, number, after))

    def data_received(self, data: bytes) -> None:
        load = self.load
        self.received += data
        body = whole(self.received)
        if body is None:
            return
        if not self.received.startswith(b"HTTP/1.1 200"):
            load.fail(f"answered {self.received[:300]!r}")
            return
        load.count += 1
        if load.count % CHECKED == 0:
            load.sampled.append((self.place, body))
        self.received = b""
        if time.perf_counter() < load.end:
            self.send()
            return
        self.transport.close()
        load.open -= 1
        if not load.open and not load.done.done():
            load.done.set_result(None)

    def connection_lost(self, error: Exception | None) -> None:
        if time.perf_counter() < self.load.end:
            self.load.fail(f"a connection was closed: {error or 'by the server'}")


def whole(data: bytes) -> bytes | None:
    """The body of a whole answer that says its length; None while some of it is missing."""
    head, end, body = data.partition(b"\r\n\r\n")
    if not end:
        return None
    _, found, rest = head.lower().partition(b"content-length:")
    if not found:
        raise Failed(f"expected an answer that says its length, found {head[:300]!r}")
    return body if len(body) >= int(rest.partition(b"\r\n")[0]) else None
