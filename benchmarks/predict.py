"""Predictions of rows that have not happened yet: of tomorrow's flights, and by key of a service.

Tomorrow is the example's last day without its outcomes. Requests by key and rows in the body are
the same rows, asked of one service on one core in turn; the client has another core.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from statistics import median

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from benchmarks import process
from benchmarks.figure import Failed, Figure, at_most, progress
from benchmarks.serving import requests
from benchmarks.serving.load import drive
from benchmarks.serving.requests import RECORD, Form, Requests, inference
from benchmarks.serving.servers import CORES, Commands, Server, running
from benchmarks.workspace import Workspace, workspace
from mlops.base import processes
from mlops.base.processes import HOST, free_port
from mlops.contract import bundle, project
from mlops.contract.paths import BUNDLE, RAW
from mlops.contract.stages import MADE_BY_DVC, MODULES
from mlops.data.tables import Later, outcomes
from mlops.deploy import manifest
from mlops.gitops import pins
from mlops.registry.pin import Pin
from mlops.serving import stores

# A short search: any model is as good to predict with.
SEARCH = {"tune.max_evals": 1, "tune.rows": 20_000}
LAST, BEFORE = "2013-12-31", "2013-12-30"
RUNS, ROUNDS, SECONDS, ASKED = 3, 5, 3.0, 2000
CONNECTIONS = 8
KEYS = 100_000
KEY, REDIS = "2013-12-31-UA-{}", "BENCHMARK_REDIS"
BY_KEY = Form("/predict", lambda row: {"keys": [row["key"]]}, RECORD.probability)
# The most CPU time of a request by key, in that of the row in the body, by the protocol.
GOALS = {"/predict": 0.8, "Open Inference Protocol": 0.8}
AGE = "x-features-age"
# How old the features are that are swapped for fresh ones, in seconds.
OLD = 1000.0


def measure() -> Iterator[Figure]:
    """CPU and wall time of the whole command; of requests by key in those with all features."""
    with workspace(SEARCH) as place:
        yield from _tomorrow(place)
        with tempfile.TemporaryDirectory(prefix="mlops-bench-") as folder, _on_last_core():
            yield from _by_key(place.root / BUNDLE, Path(folder))


def _tomorrow(place: Workspace) -> Iterator[Figure]:
    progress("predict: the source without the last day's outcomes")
    place.module("mlops.data.ingest")
    _without_outcomes(place.root / RAW, place.root / "tables")
    place.change({"data.source": "files", "data.location": "tables", "data.until": BEFORE})
    reference = []
    for stage in MADE_BY_DVC:
        progress(f"predict: {stage}")
        reference.append(place.module(MODULES[stage]).cpu)
    _pin(place)
    ended = []
    for number in range(RUNS):
        progress(f"predict: tomorrow, run {number + 1}")
        ended.append(place.mlops("predict"))
    if f" rows of {LAST} predicted" not in ended[-1].out:
        raise Failed(f"expected rows of {LAST}, found {ended[-1].out!r}")
    cpu, made = median(one.cpu for one in ended), sum(reference[:2])
    detail = f"{cpu:.1f} s / {made:.1f} s"
    yield at_most("predict tomorrow, CPU / ingest + featurize", cpu / made, 1.5, detail)
    rows = ended[-1].out.split(": ")[1].split(" of ")[0]
    yield at_most("predict tomorrow, s", median(one.seconds for one in ended), 30, rows)


def _without_outcomes(raw: Path, target: Path) -> None:
    """Copy the raw tables; on the last day no outcome is known."""
    known_later = outcomes(project.tables("flights"))
    last = pa.scalar(LAST).cast(pa.date32())
    for path in raw.glob("*/*.parquet"):
        table, name = pq.read_table(path), path.parent.name
        later = known_later.get(name, Later("", ()))
        for column in later.columns or ():
            is_last = pc.equal(table.column(later.day).cast("date32"), last)
            values = pc.if_else(is_last, None, table.column(column))
            table = table.set_column(table.column_names.index(column), column, values)
        (target / name).mkdir(parents=True, exist_ok=True)
        pq.write_table(table, target / name / path.name)


def _pin(place: Workspace) -> None:
    """Let production pin what was trained, as a release would."""
    place.module("dvc", "commit", "--quiet", "--force")
    digest, file = bundle.digest(place.root / BUNDLE), place.root / manifest.path("production")
    contents = pins.locked(place.root)
    assert contents
    pin = Pin(
        model=bundle.read_card(place.root / BUNDLE).name, version=1, digest=digest,
        evidence=bundle.digest(place.root / "reports"), run="benchmark", commit="0" * 40,
        data="0" * 64, dvc=contents, metrics={},
    )  # fmt: skip
    file.write_text(manifest.with_pin(file.read_text(), pin))


@contextmanager
def _on_last_core() -> Iterator[None]:
    """Keep the client off the server's core."""
    if len(CORES) == 1:
        raise Failed("found one core, expected two: one for the server, one for the client")
    os.sched_setaffinity(0, CORES[-1:])
    try:
        yield
    finally:
        os.sched_setaffinity(0, CORES)


def _by_key(folder: Path, place: Path) -> Iterator[Figure]:
    rows, expected = requests.read(folder)
    asked: list[requests.Row] = [{"key": KEY.format(number)} for number in range(len(rows))]
    keyed, card = Requests(BY_KEY, asked, expected), bundle.read_card(folder)
    tensors = inference(card.name)
    named: list[requests.Row] = [{card.key: row["key"]} for row in asked]
    pairs = (
        (keyed, Requests(RECORD, rows, expected)),
        (Requests(tensors, named, expected), Requests(tensors, rows, expected)),
    )
    file = str(place / "features.sqlite")
    _publish("embedded", file, rows, OLD)
    with ExitStack() as stack:
        progress("predict: a service with keys in a file")
        server = stack.enter_context(_serving(folder, "embedded", file, keyed))
        for (protocol, goal), (by_key, in_body) in zip(GOALS.items(), pairs, strict=True):
            turns = [(_cpu(server, by_key), _cpu(server, in_body)) for _ in range(ROUNDS)]
            ours, theirs = (median(side) for side in zip(*turns, strict=True))
            name = f"CPU per request by key / by row, {protocol}"
            detail = f"{ours:.0f} us / {theirs:.0f} us"
            yield at_most(name, ours / theirs, goal, detail)
        yield from _swapped(server, keyed, file, rows)
        embedded = _latency(server)
        try:
            location = stack.enter_context(_redis(place))
        except FileNotFoundError:
            yield Figure("request by key, Redis / embedded", "redis-server is not installed")
            return
        _publish("redis", location, rows, OLD)
        progress("predict: a service with keys in Redis")
        other = stack.enter_context(_serving(folder, "redis", location, keyed))
        found = f"{_latency(other) * 1e3:.2f} ms / {embedded * 1e3:.2f} ms"
        yield Figure("request by key, median, Redis / embedded", found)


def _publish(kind: str, location: str, rows: list[requests.Row], age: float) -> None:
    """Publish so many keys, made `age` seconds ago; they have these rows again and again."""
    texts = tuple(name for name, value in rows[0].items() if isinstance(value, str))
    columns = stores.Columns(tuple(name for name in rows[0] if name not in texts), texts)
    made = time.time() - age
    table = pa.Table.from_pylist(rows).take(np.arange(KEYS) % len(rows))
    names = pa.array([KEY.format(number) for number in range(len(table))])
    batches = table.append_column("key", names).to_batches()
    stores.store(kind).publish(
        location, columns, stores.packed(batches, "key", columns, made), made
    )


@contextmanager
def _serving(folder: Path, kind: str, location: str, asked: Requests) -> Iterator[Server]:
    """The service on a core of its own, with features by key."""
    command = Commands(folder, folder).service()
    words = (*command.words, "--store", kind, "--features", location)
    with running(replace(command, words=words), asked) as server:
        yield server


def _cpu(server: Server, asked: Requests) -> float:
    """Microseconds of CPU time per request."""
    before = server.cpu
    count, _ = drive(server.port, asked, CONNECTIONS, SECONDS)
    return (server.cpu - before) / count * 1e6


def _swapped(
    server: Server, keyed: Requests, file: str, rows: list[requests.Row]
) -> Iterator[Figure]:
    """Replace the file while requests come, each of which must be answered (`drive` checks it)."""
    progress(f"predict: another file of {KEYS:,} keys takes over")
    stopped = threading.Event()

    def load() -> int:
        count = 0
        while not stopped.is_set():
            count += drive(server.port, keyed, CONNECTIONS, SECONDS)[0]
        return count

    with ThreadPoolExecutor(1) as pool:
        answered = pool.submit(load)
        try:
            _publish("embedded", file, rows, 0.0)
            published = time.perf_counter()
            while _age(server) > OLD / 2:
                pass
            seconds = time.perf_counter() - published
        finally:
            stopped.set()
        count = answered.result()
    name = "from a new file to its first answer, ms"
    yield at_most(name, seconds * 1e3, 1000, f"{KEYS:,} keys")
    yield Figure("requests answered meanwhile, all of them", f"{count:,}")
    yield at_most(
        f"memory with {KEYS:,} keys, MB", process.memory(server.pid) / 1e6, 200, "after it"
    )


def _age(server: Server) -> float:
    """How old the features of an answer are, in seconds."""
    connection = http.client.HTTPConnection(HOST, server.port, timeout=60)
    connection.request("POST", BY_KEY.path, json.dumps({"keys": [KEY.format(0)]}))
    return float(connection.getresponse().headers[AGE])


def _latency(server: Server) -> float:
    """The median seconds of a request, one after the other on one connection."""
    connection = http.client.HTTPConnection(HOST, server.port, timeout=60)
    took = []
    for number in range(ASKED):
        body = json.dumps({"keys": [KEY.format(number % requests.ROWS)]})
        begin = time.perf_counter()
        connection.request("POST", BY_KEY.path, body)
        answer = connection.getresponse()
        answer.read()
        took.append(time.perf_counter() - begin)
        if answer.status != 200:
            raise Failed(f"expected an answer of status 200, found {answer.status}")
    return median(took)


@contextmanager
def _redis(place: Path) -> Iterator[str]:
    """A server of Redis on the client's core; the location of features in it."""
    port = free_port()
    command = ["redis-server", "--port", str(port), "--save", "", "--dir", str(place)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        os.environ[REDIS] = f"redis://{HOST}:{port}/0"
        if not processes.wait(lambda: _listens(port), lambda: server.poll() is None):
            raise Failed("redis-server: does not answer")
        yield f"{REDIS}/benchmark"
    finally:
        server.kill()
        server.wait()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) == 0
