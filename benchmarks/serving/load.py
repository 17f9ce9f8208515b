"""A closed loop of connections that ask again as soon as they are answered.

Requests are rendered before the clock; connections are kept; each takes another row each time.
Every answer's status is checked, every hundredth answer's probabilities after the clock.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import json
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import uvloop

from benchmarks.figure import Failed
from benchmarks.serving.forms import Form

PATIENCE = 60.0
MOST = 1_000_000
SPOT = 100
TOLERANCE = 1e-6

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Questions:
    """Requests ready to send in one form, and the probabilities that each must be answered."""

    form: Form
    requests: list[bytes]
    expected: list[list[float]]

    def check(self, place: int, body: bytes) -> None:
        """Raise Failed unless the answer has the probabilities that it must have."""
        found, expected = self.form.probabilities(json.loads(body)), self.expected[place]
        if len(found) != len(expected) or not np.allclose(found, expected, rtol=0, atol=TOLERANCE):
            raise Failed(f"{self.form.path}: found {found[:3]}, expected {expected[:3]}")


@dataclass(frozen=True)
class Round:
    """All that was asked, from the first request to the last answer: latencies in seconds,
    (answers,). Nothing is cut off at either end, so a server that answers in bursts, as slow ones
    do, gets neither more nor less than it did."""

    seconds: float
    latencies: Array

    @property
    def rate(self) -> float:
        """Answers per second."""
        return len(self.latencies) / self.seconds

    @property
    def median(self) -> float:
        """Half of the answers took no longer."""
        return float(np.median(self.latencies))

    @property
    def spread(self) -> float:
        """The 99th percentile, in medians."""
        return float(np.percentile(self.latencies, 99)) / self.median


def drive(
    port: int, questions: Questions, connections: int, seconds: float, spot: int = SPOT
) -> Round:
    """Ask for so many seconds; raises Failed when one of every `spot` answers is wrong, or when
    one does not come."""
    run = _Run(questions, connections, spot)
    gc.collect()
    gc.disable()
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(run.drive(port, seconds))
    finally:
        gc.enable()
    for place, answer in run.spots:
        questions.check(place, answer)
    return Round(run.took, run.latencies[: run.count].copy())


@dataclass
class _Run:
    """What the connections of one round share."""

    questions: Questions
    connections: int
    spot: int
    latencies: Array = field(default_factory=lambda: np.zeros(MOST))
    count: int = 0
    end: float = float("inf")
    took: float = 0.0
    spots: list[tuple[int, bytes]] = field(default_factory=list)

    async def drive(self, port: int, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        self.places = itertools.cycle(range(len(self.questions.requests)))
        self.open, self.done = self.connections, loop.create_future()
        made = [
            (await loop.create_connection(lambda: _Connection(self), "127.0.0.1", port))[1]
            for _ in range(self.connections)
        ]
        begin = time.perf_counter()
        self.end = begin + seconds
        for connection in made:
            connection.ask(time.perf_counter())
        try:
            await asyncio.wait_for(self.done, seconds + PATIENCE)
        except TimeoutError:
            raise Failed(f"{self.open} of {self.connections} connections unanswered") from None
        self.took = time.perf_counter() - begin

    def fail(self, reason: str) -> None:
        if not self.done.done():
            self.done.set_exception(Failed(reason))

    def close(self) -> None:
        self.open -= 1
        if not self.open and not self.done.done():
            self.done.set_result(None)


class _Connection(asyncio.Protocol):
    """One client: asks, waits, asks again until the round ends."""

    def __init__(self, run: _Run) -> None:
        self.run = run
        self.rest = b""
        self.over = False

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def ask(self, now: float) -> None:
        self.sent = now
        self.place = next(self.run.places)
        self.transport.write(self.run.questions.requests[self.place])

    def data_received(self, data: bytes) -> None:
        if self.rest:
            data = self.rest + data
        try:
            body = whole(data)
        except Failed as failed:
            self.run.fail(str(failed))
            return
        if body is None:
            self.rest = data
            return
        self.rest = b""
        now, run = time.perf_counter(), self.run
        if not data.startswith(b"HTTP/1.1 200"):
            run.fail(f"answered {data[:300]!r}")
            return
        self._count(run, now, data, body)
        if now < run.end:
            self.ask(now)
        else:
            self.over = True
            self.transport.close()
            run.close()

    def _count(self, run: _Run, now: float, data: bytes, body: int) -> None:
        run.latencies[run.count] = now - self.sent
        run.count += 1
        if run.count % run.spot == 0:
            run.spots.append((self.place, data[body:]))

    def connection_lost(self, error: Exception | None) -> None:
        if not self.over:
            self.run.fail(f"a connection was closed: {error or 'by the server'}")


def whole(data: bytes) -> int | None:
    """Where the body of a whole answer begins; None while some of it is missing."""
    end = data.find(b"\r\n\r\n")
    if end < 0:
        return None
    head = data[:end].lower()
    found = head.find(b"content-length:")
    if found < 0:
        raise Failed(f"expected an answer that says its length, found {head[:300]!r}")
    stop = head.find(b"\r\n", found)
    length = int(head[found + 15 : stop if stop > 0 else end])
    return end + 4 if len(data) >= end + 4 + length else None
