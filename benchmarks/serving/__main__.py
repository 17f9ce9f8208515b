"""`python -m benchmarks.serving [BUNDLE]`: the service against its rivals, one row a request.

Serves `models/bundle`, which `make train` makes, unless another folder is named. Servers have
their turns one after the other, round after round, all on one core; the client has another.
Every request has an id of its own. CPU time is that of a server's whole process tree. Exits 1 when
a figure falls short of its goal or can't be measured.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks import process
from benchmarks.figure import Failed, Figure, at_least, at_most, progress
from benchmarks.serving import requests
from benchmarks.serving.load import drive
from benchmarks.serving.requests import MLFLOW, PLAIN, RECORD, Requests, inference
from benchmarks.serving.servers import CORES, Commands, Server, running
from benchmarks.workspace import REPOSITORY
from mlops.base.errors import UserError
from mlops.contract import bundle
from mlops.contract.paths import BUNDLE

# The most CPU time per request, in that of FastAPI with pydantic and ONNX Runtime.
CPU_GOALS = {1: 1 / 2, 8: 1 / 4, 64: 1 / 4}
# The least requests per second at 64 connections, in those of the rival.
RATE_GOALS = {"mlserver": 6, "mlflow": 60}
MANY = 64
# Rounds of each server, and their seconds.
ROUNDS, SECONDS = 5, 3.0


@dataclass(frozen=True)
class Side:
    """A server, and the requests that it is sent."""

    server: Server
    requests: Requests

    def turn(self, connections: int) -> tuple[float, float]:
        """Microseconds of CPU time per request, and requests per second."""
        before = self.server.cpu
        count, took = drive(self.server.port, self.requests, connections, SECONDS)
        return (self.server.cpu - before) / count * 1e6, count / took


def main() -> int:
    """Measure and print; the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.serving", description="Load the service and its rivals."
    )
    parser.add_argument("bundle", nargs="?", type=Path, default=REPOSITORY / BUNDLE)
    given = parser.parse_args()
    # Servers must not outlive a benchmark that is stopped.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    good = True
    try:
        if len(CORES) == 1:
            raise Failed("found one core, expected two: one for the server, one for the client")
        os.sched_setaffinity(0, CORES[-1:])
        for figure in _measure(given.bundle.absolute()):
            print(figure.line, flush=True)
            good &= figure.reached is not False
    except (Failed, UserError) as error:
        print(f"serving: failed: {' '.join(str(error).split())}", flush=True)
        return 1
    return 0 if good else 1


def _measure(folder: Path) -> Iterator[Figure]:
    data, name = requests.read(folder), bundle.read_card(folder).name
    with tempfile.TemporaryDirectory(prefix="mlops-bench-") as place, ExitStack() as stack:
        commands = Commands(folder, Path(place))
        starts = {
            "service": (commands.service, RECORD), "fastapi": (commands.fastapi, PLAIN),
            "mlserver": (commands.mlserver, inference("model")),
            "mlflow": (commands.mlflow, MLFLOW),
        }  # fmt: skip
        sides = {}
        for side, (command, form) in starts.items():
            progress(f"{side}: starting")
            asked = Requests(form, *data)
            sides[side] = Side(stack.enter_context(running(command(), asked)), asked)
        service = sides["service"].server
        for connections, goal in CPU_GOALS.items():
            pair = [sides["service"], sides["fastapi"]]
            (ours, _), (theirs, _) = _turns(pair, connections)
            label = f"CPU per request / fastapi, {connections} connections"
            yield at_most(label, ours / theirs, goal, f"{ours:.0f} us / {theirs:.0f} us")
        for rival, form in (("mlserver", inference(name)), ("mlflow", MLFLOW)):
            pair = [Side(service, Requests(form, *data)), sides[rival]]
            (_, ours), (_, theirs) = _turns(pair, MANY)
            label = f"requests per second / {rival}, {MANY} connections"
            detail = f"{ours:.0f}/s / {theirs:.0f}/s"
            yield at_least(label, ours / theirs, RATE_GOALS[rival], detail, digits=1)
        memory = process.memory(service.pid) / 1e6
        yield at_most("memory after the load, MB", memory, 200, "shared pages once")


def _turns(sides: Sequence[Side], connections: int) -> list[tuple[float, float]]:
    """Each side's median CPU time and rate; there, back, there, so that no trend favours one."""
    results: list[list[tuple[float, float]]] = [[] for _ in sides]
    for number in range(ROUNDS):
        order = list(enumerate(sides))
        for place, side in reversed(order) if number % 2 else order:
            results[place].append(side.turn(connections))
    return [(median(cpu for cpu, _ in r), median(rate for _, rate in r)) for r in results]


if __name__ == "__main__":
    sys.exit(main())
