"""A closed loop of connections, each of which sends the next request when it has its answer.

Requests are rendered before the clock, but for an id of its own that each has. Every answer's
status is checked, and of every hundredth the probability, after the clock.
"""

from __future__ import annotations

import asyncio
import itertools
import re
import time

import uvloop

from benchmarks.figure import Failed
from benchmarks.serving.requests import Requests
from mlops.base.processes import HOST

ANSWER_SECONDS = 60.0
CHECKED = 100
LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)


def drive(port: int, requests: Requests, connections: int, seconds: float) -> tuple[int, float]:
    """Send requests for so many seconds; returns their number and the seconds until the last
    answer. Raises Failed for a wrong answer, or for none."""
    sampled: list[tuple[int, bytes]] = []
    numbers, begin = itertools.count(), time.perf_counter()

    async def connection() -> None:
        reader, writer = await asyncio.open_connection(HOST, port)
        while time.perf_counter() < begin + seconds:
            number = next(numbers)
            place = number % len(requests.rendered)
            before, after = requests.rendered[place]
            writer.write(b"%s%012d%s" % (before, number, after))
            body = await _answer(reader)
            if number % CHECKED == 0:
                sampled.append((place, body))
        writer.close()

    async def load() -> None:
        async with asyncio.timeout(seconds + ANSWER_SECONDS):
            await asyncio.gather(*(connection() for _ in range(connections)))

    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(load())
    except (OSError, EOFError) as error:
        raise Failed(f"a connection was closed, or unanswered: {error}") from None
    took = time.perf_counter() - begin
    for place, body in sampled:
        requests.check(place, body)
    return next(numbers), took


async def _answer(reader: asyncio.StreamReader) -> bytes:
    """The body of the next answer."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = LENGTH.search(head)
    if not length or not head.startswith(b"HTTP/1.1 200"):
        raise Failed(f"expected an answer of status 200 that says its length, found {head[:300]!r}")
    return await reader.readexactly(int(length[1]))
