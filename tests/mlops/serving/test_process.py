"""The service as a process: it changes bundles, workers die, it is told to stop; nobody notices."""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time

import psutil
import pytest

from mlops.contract import bundle
from tests.served import served

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def champion(finished):
    return finished("wine").root / "models" / "bundle"


@pytest.fixture(scope="module")
def challenger(finished, tmp_path_factory):
    """Another bundle of the same columns."""
    workspace = finished("wine").copy(tmp_path_factory.mktemp("challenger") / "repository")
    workspace.change({"seed": 11, "tune.families": ["lightgbm"]})
    workspace.run("tune", "train")
    return workspace.root / "models" / "bundle"


@pytest.fixture
def named(champion, challenger, tmp_path):
    """A folder with both bundles and the file that names the one in use."""
    shutil.copytree(champion, tmp_path / "champion")
    shutil.copytree(challenger, tmp_path / "challenger")
    name(tmp_path, "champion")
    return tmp_path


def name(folder, which):
    aside = folder / ".current"
    aside.write_text(which)
    os.replace(aside, folder / "current")


def example(folder):
    return json.loads((folder / bundle.CARD).read_text())["example"]


def until(condition, seconds=20):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


class Load:
    """Requests one after the other, from several threads, and everything that went wrong."""

    def __init__(self, service, row, threads=4):
        self.service, self.row = service, row
        self.answered, self.wrong, self.digests = 0, [], set()
        self.over = threading.Event()
        self.threads = [threading.Thread(target=self.run) for _ in range(threads)]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *problem):
        self.over.set()
        for thread in self.threads:
            thread.join()

    def run(self):
        while not self.over.is_set():
            try:
                reply = self.service.post("/predict", self.row)
            except Exception as error:
                self.wrong.append(repr(error))
                continue
            self.answered += 1
            if reply.status != 200:
                self.wrong.append(reply.body)
            self.digests.add(reply.headers.get("x-model-digest"))


def test_another_bundle_takes_over_and_no_request_fails(named, tmp_path):
    wanted = {bundle.digest(named / which) for which in ("champion", "challenger")}
    with (
        served(named / "current", tmp_path) as service,
        Load(service, example(named / "champion")) as load,
    ):
        until(lambda: load.answered > 50)
        for which in ("challenger", "champion", "challenger"):
            name(named, which)
            digest = bundle.digest(named / which)
            until(lambda digest=digest: service.get("/model").json["digest"] == digest)
        until(lambda: load.answered > 200)
    assert load.wrong == []
    assert load.digests == wanted


def test_a_bundle_that_is_broken_is_refused_and_the_old_one_serves_on(named, tmp_path):
    model = named / "challenger" / bundle.MODEL
    model.write_bytes(model.read_bytes()[:-1])
    with served(named / "current", tmp_path) as service:
        name(named, "challenger")
        until(lambda: service.count("mlops_swaps_total", outcome="refused") == 1)
        assert service.get("/model").json["digest"] == bundle.digest(named / "champion")
        assert service.post("/predict", example(named / "champion")).status == 200
        name(named, "nothing")
        until(lambda: service.count("mlops_swaps_total", outcome="refused") == 2)
        assert service.get("/ping").status == 200


def test_several_workers_count_together_and_one_that_dies_is_replaced(champion, tmp_path):
    with served(champion, tmp_path, "--workers=2") as service:
        row = example(champion)
        for _ in range(20):
            assert service.post("/predict", row).status == 200
        assert service.count("mlops_requests_total", route="predict", status="200") == 20
        workers = {p.pid for p in psutil.Process(service.process.pid).children()}
        victim = max(workers)
        os.kill(victim, signal.SIGKILL)
        until(lambda: victim not in {
            p.pid for p in psutil.Process(service.process.pid).children()
            if p.status() != psutil.STATUS_ZOMBIE
        })  # fmt: skip
        until(lambda: len(psutil.Process(service.process.pid).children()) >= len(workers))
        for _ in range(20):
            assert service.post("/predict", row).status == 200
        assert service.stop() == 0


def test_told_to_stop_it_is_unready_and_answers_on_until_it_ends(champion, tmp_path):
    with served(champion, tmp_path, "--drain=2") as service:
        service.process.send_signal(signal.SIGTERM)
        until(lambda: service.get("/v2/health/ready").status == 503)
        reply = service.post("/predict", example(champion))
        assert reply.status == 200
        assert reply.headers["connection"] == "close"
        assert service.process.wait(30) == -signal.SIGTERM


def test_what_is_under_way_is_answered_before_it_ends(champion, tmp_path):
    """The body arrives after the service was told to stop."""
    row = json.dumps(example(champion)).encode()
    with served(champion, tmp_path) as service:
        client = socket.create_connection(("127.0.0.1", service.port))
        head = f"POST /predict HTTP/1.1\r\nhost: a\r\ncontent-length: {len(row)}\r\n\r\n"
        client.sendall(head.encode() + row[:10])
        until(lambda: service.get("/ping").status == 200)
        service.process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        client.sendall(row[10:])
        assert client.recv(100_000).startswith(b"HTTP/1.1 200")
        service.process.wait(30)


def test_a_body_that_does_not_arrive_is_given_up(champion, tmp_path):
    with served(champion, tmp_path, "--patience=0.5") as service:
        client = socket.create_connection(("127.0.0.1", service.port))
        client.sendall(b"POST /predict HTTP/1.1\r\nhost: a\r\ncontent-length: 50\r\n\r\n{")
        with client.makefile("rb") as answer:
            # To its end: the service hangs up.
            assert answer.read().startswith(b"HTTP/1.1 408")


def test_a_body_that_drips_is_given_up_too(champion, tmp_path):
    """Or else a few slow clients would take all the room there is."""
    with served(champion, tmp_path, "--patience=0.5") as service:
        client = socket.create_connection(("127.0.0.1", service.port))
        client.sendall(b"POST /predict HTTP/1.1\r\nhost: a\r\ncontent-length: 1000\r\n\r\n")
        for _ in range(900):
            client.sendall(b" ")
            if select.select([client], [], [], 0.1)[0]:
                break
        assert client.recv(100_000).startswith(b"HTTP/1.1 408")


def test_more_requests_than_allowed_are_told_when_to_come_back(champion, tmp_path):
    with served(champion, tmp_path, "--requests=2") as service:
        waiting = [socket.create_connection(("127.0.0.1", service.port)) for _ in range(2)]
        for client in waiting:
            client.sendall(b"POST /predict HTTP/1.1\r\nhost: a\r\ncontent-length: 50\r\n\r\n{")
        until(lambda: service.post("/predict", example(champion)).status == 429)
        assert int(service.post("/predict", example(champion)).headers["retry-after"]) >= 1
        assert service.get("/ping").status == 200
        for client in waiting:
            client.close()
        until(lambda: service.post("/predict", example(champion)).status == 200)


def test_what_was_asked_and_answered_is_kept_in_files_that_stay_small(champion, tmp_path):
    folder = tmp_path / "samples"
    options = (f"--samples={folder}", "--size=20000", "--kept=3")
    with served(champion, tmp_path, *options) as service:
        row = example(champion)
        for _ in range(20):
            reply = service.post("/predict", [row] * 20)
            assert reply.status == 200
        service.stop()
    files = list(folder.iterdir())
    assert 1 < len(files) <= 3
    assert all(file.stat().st_size <= 20_000 for file in files)
    line = json.loads(files[0].read_text().splitlines()[-1])
    assert line["inputs"].keys() == row.keys()
    assert line["digest"] == bundle.digest(champion)
    assert line["outputs"].keys() == set(
        json.loads((champion / bundle.CARD).read_text())["outputs"]
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["models/nothing"], "models/nothing: found no bundle.json, expected a bundle's folder"),
        (["BUNDLE", "--port=99999"], "can't listen there"),
        (["BUNDLE", "--port=TAKEN"], "can't listen there: Address already in use"),
        (["models:/flights/1"], "expected a folder; `mlops serve` takes a model's URI"),
    ],
)
def test_what_keeps_it_from_starting_is_one_line(champion, arguments, said):
    taken = socket.create_server(("127.0.0.1", 0))
    given = {"BUNDLE": str(champion), "--port=TAKEN": f"--port={taken.getsockname()[1]}"}
    command = [given.get(argument, argument) for argument in arguments]
    done = subprocess.run(
        [sys.executable, "-m", "mlops.serving", *command], capture_output=True, text=True,
        timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("error: ")
    assert said in done.stderr


def test_it_listens_to_this_machine_alone_unless_told_otherwise(champion, tmp_path):
    with served(champion, tmp_path) as service:
        listening = [
            found.laddr.ip
            for found in psutil.Process(service.process.pid).net_connections()
            if found.status == psutil.CONN_LISTEN
        ]
        assert listening == ["127.0.0.1"]
