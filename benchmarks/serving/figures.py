"""The figures of the service, each beside its goal."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from statistics import median

from benchmarks import process
from benchmarks.figure import Figure, at_most, progress
from benchmarks.serving import forms, machine
from benchmarks.serving.contest import Plan, Side, contest, held, times
from benchmarks.serving.load import Questions, drive
from benchmarks.serving.rows import Rows
from benchmarks.serving.server import Server, running
from benchmarks.serving.servers import Stand
from benchmarks.workspace import REPOSITORY

MEGABYTE = 1e6
REQUESTS = 10_000
MANY, SOME = 64, 8
# The service in another form than its own: that of the rival it is compared with.
TABLE, TENSORS = "service, as mlflow", "service, as mlserver"

Servers = dict[str, Server]


def measure(stand: Stand, rows: Rows, plan: Plan) -> Iterator[Figure]:
    """All of them, the load generator's own ceiling first."""
    own = rows.single(forms.record())
    yield _ceiling(stand, own, plan)
    yield _start(stand, own, plan)
    yield _memory(stand, own)
    yield _latency(stand, rows, own, plan)
    starts = {
        "service": (stand.service(), own),
        "mlflow": (stand.mlflow(), rows.single(forms.mlflow())),
        "mlserver": (stand.mlserver(), rows.single(forms.inference("model"))),
        "bentoml": (stand.bentoml(), rows.single(forms.named())),
        "fastapi": (stand.fastapi(), rows.single(forms.plain())),
    }
    with held(starts) as servers:
        tensors = rows.single(forms.inference(stand.name))
        singles = [
            *(Side(name, servers[name], questions) for name, (_, questions) in starts.items()),
            Side(TABLE, servers["service"], starts["mlflow"][1]),
            Side(TENSORS, servers["service"], tensors),
        ]
        yield from _single(singles, plan)
        yield from _hundreds(servers, stand, rows, plan)


def _single(sides: list[Side], plan: Plan) -> Iterator[Figure]:
    turns = contest(sides, MANY, plan)
    yield times(turns, TABLE, "mlflow", f"1 row, {MANY} connections / mlflow", 80)
    yield times(turns, TENSORS, "mlserver", f"1 row, {MANY} connections / mlserver", 10)
    yield times(turns, "service", "bentoml", f"1 row, {MANY} connections / bentoml", 30)
    yield times(turns, "service", "fastapi", f"1 row, {MANY} connections / fastapi", 6)
    rounds = turns["service"]
    said = f"median {median(round.median for round in rounds) * 1000:.2f} ms"
    spread = median(round.spread for round in rounds)
    yield at_most(f"1 row, {MANY} connections, p99 / median", spread, 3, said)
    fewer = contest([side for side in sides if side.name in ("mlflow", TABLE)], SOME, plan)
    yield times(fewer, TABLE, "mlflow", f"1 row, {SOME} connections / mlflow", 40)


def _hundreds(servers: Servers, stand: Stand, rows: Rows, plan: Plan) -> Iterator[Figure]:
    table = rows.many(forms.mlflow())
    sides = [
        Side(TABLE, servers["service"], table),
        Side("mlflow", servers["mlflow"], table),
        Side(TENSORS, servers["service"], rows.many(forms.inference(stand.name))),
        Side("mlserver", servers["mlserver"], rows.many(forms.inference("model"))),
    ]
    turns = contest(sides, SOME, plan)
    yield times(turns, TABLE, "mlflow", f"100 rows, {SOME} connections / mlflow", 8)
    yield times(turns, TENSORS, "mlserver", f"100 rows, {SOME} connections / mlserver", 1.6)


def _ceiling(stand: Stand, questions: Questions, plan: Plan) -> Figure:
    """What the load generator asks of a server that does nothing."""
    progress("the load generator's own ceiling")
    # Nothing is compared: it answers the same whatever it is asked.
    with running(stand.trivial(), questions.requests[0]) as server:
        rounds = [
            drive(server.port, questions, MANY, plan.seconds, spot=sys.maxsize)
            for _ in range(plan.rounds)
        ]
    rate = median(round.rate for round in rounds)
    return Figure(f"load generator's ceiling, {MANY} connections", f"{rate:.0f}/s")


def _latency(stand: Stand, rows: Rows, questions: Questions, plan: Plan) -> Figure:
    """One connection over HTTP against the model's own run, in turn."""
    over, bare = [], []
    with held({"service": (stand.service(), questions)}) as servers:
        side = Side("service", servers["service"], questions)
        for _ in range(plan.rounds):
            once = Plan(rounds=1, seconds=plan.seconds)
            over += [round.median for round in contest([side], 1, once)[side.name]]
            bare.append(_bare(stand, plan.seconds))
    above, below = median(over), median(bare)
    said = f"{above * 1e6:.0f} us / {below * 1e6:.0f} us"
    return at_most("1 row, 1 connection / bare ONNX Runtime", above / below, 4, said)


def _bare(stand: Stand, seconds: float) -> float:
    words = ["-m", "benchmarks.serving.bare", str(stand.bundle), str(seconds)]
    with machine.on(machine.SERVER):
        ended = process.run([sys.executable, *words], REPOSITORY, os.environ)
    return float(ended.out)


def _start(stand: Stand, questions: Questions, plan: Plan) -> Figure:
    """From the process's start to its first answer, against an import."""
    progress("start to first answer")
    ours, imports = [], []
    for _ in range(plan.starts):
        with running(stand.service(), questions.requests[0]) as server:
            ours.append(server.seconds)
        with machine.on(machine.SERVER):
            command = [sys.executable, "-c", "import onnxruntime"]
            imports.append(process.run(command, REPOSITORY, os.environ).seconds)
    above, below = median(ours), median(imports)
    said = f"{above:.2f} s / {below:.2f} s"
    return at_most("first answer / `import onnxruntime`", above / below, 3, said)


def _memory(stand: Stand, questions: Questions) -> Figure:
    """Resident memory of a service that has answered many requests."""
    progress(f"memory after {REQUESTS} requests")
    with running(stand.service(), questions.requests[0]) as server:
        answered = 0
        while answered < REQUESTS:
            answered += len(drive(server.port, questions, MANY, seconds=2.0).latencies)
        megabytes = server.resident / MEGABYTE
    return at_most("resident memory, MB", megabytes, 200, f"after {answered} requests")
