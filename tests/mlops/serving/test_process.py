"""The service as processes: bundles change, workers die, it stops, and no request is lost."""

from __future__ import annotations

import http.client
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
from contextlib import closing, suppress

import pandas as pd
import psutil
import pytest

from mlops.contract import bundle
from tests.mlops.deploy.load import Load
from tests.mlops.serving import forms
from tests.served import served

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
HEAD = b"POST /predict HTTP/1.1\r\nhost: a\r\n"


@pytest.fixture(scope="module")
def champion(made):
    return made("lightgbm", "binary")


@pytest.fixture(scope="module")
def challenger(made):
    """Another bundle of the same columns."""
    return made("xgboost", "binary")


@pytest.fixture
def named(champion, challenger, tmp_path):
    """A folder with both bundles and the file that names the one in use."""
    shutil.copytree(champion, tmp_path / "champion")
    shutil.copytree(challenger, tmp_path / "challenger")
    name(tmp_path, "champion")
    return tmp_path


def name(folder, which):
    unfinished = folder / ".current"
    unfinished.write_text(which)
    os.replace(unfinished, folder / "current")


def example(folder):
    return json.loads((folder / bundle.CARD).read_text())["example"]


def until(condition, seconds=20):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_another_bundle_takes_over_a_broken_one_does_not_and_no_request_fails(named, tmp_path):
    row, folders = example(named / "champion"), [named / "champion", named / "challenger"]
    frame = pd.DataFrame([row])
    scores = {bundle.digest(one): list(bundle.Scorer(one).predict(frame)) for one in folders}
    with (
        served(named / "current", tmp_path) as service,
        Load(service.url, [row], scores, clients=4) as load,
    ):
        load.wait(50)
        for which in ("challenger", "champion", "challenger"):
            name(named, which)
            digest = bundle.digest(named / which)
            until(lambda digest=digest: service.get("/model").json["digest"] == digest)
        # One that is broken, or is not there, is refused; the old one serves on.
        model = named / "champion" / bundle.MODEL
        model.write_bytes(model.read_bytes()[:-1])
        for refused, which in enumerate(("champion", "nothing"), 1):
            name(named, which)
            swaps = {"name": "mlops_swaps_total", "outcome": "refused"}
            until(lambda refused=refused, swaps=swaps: service.count(**swaps) == refused)
            assert service.get("/model").json["digest"] == bundle.digest(named / "challenger")
        load.wait(50)
    assert load.failed == []
    assert load.answered.keys() == scores.keys()


def connect(service):
    return socket.create_connection(("127.0.0.1", service.port), timeout=30)


def received(connection):
    """All that the service sends until it hangs up."""
    with connection, suppress(ConnectionError), connection.makefile("rb") as answer:
        return answer.read()
    return b""


@pytest.mark.nightly
def test_several_workers_count_together_and_one_that_dies_is_replaced(champion, tmp_path):
    with served(champion, tmp_path, "--workers=2") as service:
        row = example(champion)
        for _ in range(20):
            assert service.post("/predict", row).status == 200
        assert service.count("mlops_requests_total", route="predict", status="200") == 20
        victim, other = service.workers
        victim.kill()
        until(lambda: len(service.workers) == 2 and victim not in service.workers)
        until(lambda: service.post("/predict", row).status == 200)
        assert other in service.workers
        assert service.stop() == 0


def test_workers_listen_to_this_machine_and_end_with_the_process_that_started_them(
    champion, tmp_path
):
    with served(champion, tmp_path, "--workers=2") as service:
        workers = service.workers
        open_ = [one for worker in workers for one in worker.net_connections()]
        listening = {one.laddr.ip for one in open_ if one.status == psutil.CONN_LISTEN}
        assert listening == {"127.0.0.1"}
        service.process.kill()
        _, alive = psutil.wait_procs(workers, timeout=30)
        assert alive == []


def test_told_to_stop_it_is_unready_and_answers_on_until_it_ends(champion, tmp_path):
    with served(champion, tmp_path, "--drain=4") as service:
        service.process.send_signal(signal.SIGTERM)
        until(lambda: service.get("/v2/health/ready").status == 503)
        reply = service.post("/predict", example(champion))
        assert reply.status == 200
        assert reply.headers["connection"] == "close"
        assert service.process.wait(60) == 0


def test_told_to_stop_it_fails_no_request_of_a_busy_connection(champion, tmp_path):
    """Clients that keep their connections until they are told to close them."""
    row, failed, answered = json.dumps(example(champion)), [], []

    def send(port):
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
            closed = False
            while not closed:
                try:
                    connection.request("POST", "/predict", row, {"content-type": forms.JSON})
                    response = connection.getresponse()
                    response.read()
                except (OSError, http.client.HTTPException) as error:
                    failed.append(repr(error))
                    return
                answered.append(response.status)
                closed = response.will_close

    with served(champion, tmp_path) as service:
        threads = [threading.Thread(target=send, args=[service.port]) for _ in range(8)]
        for thread in threads:
            thread.start()
        until(lambda: len(answered) > 200)
        assert service.stop() == 0
        for thread in threads:
            thread.join()
    assert (failed, set(answered)) == ([], {200})


def test_requests_under_way_are_answered_before_it_ends(champion, tmp_path):
    """Their bodies arrive after the service was told to stop."""
    row = json.dumps(example(champion)).encode()
    with served(champion, tmp_path) as service:
        clients = [connect(service) for _ in range(8)]
        for client in clients:
            client.sendall(HEAD + f"content-length: {len(row)}\r\n\r\n".encode() + row[:10])
        until(lambda: service.get("/ping").status == 200)
        service.process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        for client in clients:
            client.sendall(row[10:])
            assert received(client).startswith(b"HTTP/1.1 200")
        assert service.process.wait(60) == 0


def test_an_offer_of_http_2_keeps_its_body(champion, tmp_path):
    """As Java's own client makes it."""
    row = json.dumps(example(champion)).encode()
    with served(champion, tmp_path) as service, connect(service) as client:
        client.sendall(
            HEAD + b"connection: Upgrade, HTTP2-Settings, close\r\nupgrade: h2c\r\n"
            b"http2-settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA\r\n"
            + f"content-length: {len(row)}\r\n\r\n".encode() + row
        )  # fmt: skip
        assert received(client).startswith(b"HTTP/1.1 200")


def test_slow_and_endless_heads_are_given_up_and_others_are_answered(champion, tmp_path):
    options = ("--idle-timeout=1", "--connections=50")
    with served(champion, tmp_path, *options) as service:
        slow = [connect(service) for _ in range(50)]
        for client in slow:
            client.sendall(HEAD + b"x: ")
        assert service.post("/predict", example(champion)).status == 200
        assert [received(client) for client in slow] == [b""] * 50
        endless = connect(service)
        with suppress(ConnectionError):
            for _ in range(100):
                endless.sendall(b"POST /predict HTTP/1.1\r\nx: " + b"x" * 10_000)
        assert received(endless)[:12] in (b"", b"HTTP/1.1 431")


@pytest.mark.parametrize("drip", [False, True])
def test_a_body_that_does_not_arrive_in_time_is_given_up(champion, tmp_path, drip):
    with served(champion, tmp_path, "--body-timeout=0.5") as service:
        client = connect(service)
        client.sendall(HEAD + b"content-length: 1000\r\n\r\n{")
        while drip and not select.select([client], [], [], 0.1)[0]:
            client.sendall(b" ")
        # To its end: the service hangs up.
        assert received(client).startswith(b"HTTP/1.1 408")


def test_more_requests_or_bytes_than_allowed_are_told_when_to_come_back(champion, tmp_path):
    row = example(champion)
    with served(champion, tmp_path, "--requests=2", "--bodies=1000") as service:
        waiting = [connect(service) for _ in range(2)]
        for client in waiting:
            client.sendall(HEAD + b"content-length: 50\r\n\r\n{")
        until(lambda: service.post("/predict", row).status == 429)
        assert int(service.post("/predict", row).headers["retry-after"]) >= 1
        assert service.get("/ping").status == 200
        waiting.pop().close()
        until(lambda: service.post("/predict", row).status == 200)
        assert service.post("/predict", [row] * 10).status == 429
        waiting.pop().close()
        until(lambda: service.post("/predict", row).status == 200)


def test_samples_are_kept_in_files_that_stay_small(champion, tmp_path):
    folder = tmp_path / "samples"
    options = (f"--samples={folder}", "--sample-bytes=20000", "--sample-files=3")
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
    ("arguments", "message"),
    [
        (["models/nothing"], "models/nothing: found no bundle.json, expected a bundle's folder"),
        (["BUNDLE", "--port=99999"], "can't listen there"),
        (["BUNDLE", "--port=TAKEN"], "can't listen there: Address already in use"),
        (["models:/flights/1"], "expected a folder; `mlops serve` takes a model's URI"),
    ],
)
def test_what_keeps_it_from_starting_is_one_line(champion, arguments, message):
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
    assert message in done.stderr
