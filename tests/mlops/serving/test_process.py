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

from mlops.base.errors import UserError
from mlops.contract import bundle
from mlops.serving import server
from mlops.serving.settings import Settings
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
def test_several_workers_count_together_are_replaced_and_end_with_their_parent(champion, tmp_path):
    with served(champion, tmp_path, "--workers=2") as service:
        row = example(champion)
        for _ in range(20):
            assert service.post("/predict", row).status == 200
        assert service.count("mlops_requests_total", route="predict", status="200") == 20
        victim, other = service.workers
        victim.kill()
        until(lambda: len(service.workers) == 2 and victim not in service.workers)
        until(lambda: service.post("/predict", row).status == 200)
        workers = service.workers
        assert other in workers
        open_ = [one for worker in workers for one in worker.net_connections()]
        listening = {one.laddr.ip for one in open_ if one.status == psutil.CONN_LISTEN}
        assert listening == {"127.0.0.1"}
        service.process.kill()
        _, alive = psutil.wait_procs(workers, timeout=30)
        assert alive == []


def test_told_to_stop_it_is_unready_and_fails_no_request_until_it_ends(champion, tmp_path):
    """Of clients that keep connections until told to close them, and of bodies still to come."""
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

    samples = tmp_path / "samples"
    options = (f"--samples={samples}", "--sample-bytes=20000", "--sample-files=3", "--drain=2")
    with served(champion, tmp_path, *options) as service:
        late = [connect(service) for _ in range(8)]
        for client in late:
            client.sendall(HEAD + f"content-length: {len(row)}\r\n\r\n{row[:10]}".encode())
        threads = [threading.Thread(target=send, args=[service.port]) for _ in range(4)]
        for thread in threads:
            thread.start()
        until(lambda: len(answered) > 200)
        service.process.send_signal(signal.SIGTERM)
        until(lambda: service.get("/v2/health/ready").status == 503)
        reply = service.post("/predict", example(champion))
        assert (reply.status, reply.headers["connection"]) == (200, "close")
        for thread in threads:
            thread.join()
        for client in late:
            client.sendall(row[10:].encode())
            assert received(client).startswith(b"HTTP/1.1 200")
        assert service.process.wait(60) == 0
    assert (failed, set(answered)) == ([], {200})
    files = list(samples.iterdir())
    assert 1 < len(files) <= 3
    assert all(file.stat().st_size <= 20_000 for file in files)
    line = json.loads(files[0].read_text().splitlines()[-1])
    assert (line["inputs"].keys(), line["digest"]) == (example(champion).keys(),
                                                       bundle.digest(champion))  # fmt: skip


@pytest.fixture(scope="module")
def limited(champion, tmp_path_factory):
    """A service with small limits."""
    options = ("--idle-timeout=1", "--connections=50", "--body-timeout=5", "--requests=2",
               "--bodies=1500")  # fmt: skip
    with served(champion, tmp_path_factory.mktemp("limited"), *options) as service:
        yield service


def test_an_offer_of_http_2_keeps_its_body(limited, champion):
    """As Java's own client makes it."""
    row = json.dumps(example(champion)).encode()
    with connect(limited) as client:
        client.sendall(
            HEAD + b"connection: Upgrade, HTTP2-Settings, close\r\nupgrade: h2c\r\n"
            b"http2-settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA\r\n"
            + f"content-length: {len(row)}\r\n\r\n".encode() + row
        )  # fmt: skip
        assert received(client).startswith(b"HTTP/1.1 200")


def test_slow_and_endless_heads_are_given_up_and_others_are_answered(limited, champion):
    slow = [connect(limited) for _ in range(50)]
    for client in slow:
        client.sendall(HEAD + b"x: ")
    assert limited.post("/predict", example(champion)).status == 200
    assert [received(client) for client in slow] == [b""] * 50
    endless = connect(limited)
    with suppress(ConnectionError):
        for _ in range(100):
            endless.sendall(b"POST /predict HTTP/1.1\r\nx: " + b"x" * 10_000)
    assert received(endless)[:12] in (b"", b"HTTP/1.1 431")


def test_a_body_that_does_not_arrive_in_time_is_given_up_however_it_drips(limited):
    silent, dripping = clients = connect(limited), connect(limited)
    for client in clients:
        client.sendall(HEAD + b"content-length: 700\r\n\r\n{")
    while not select.select([dripping], [], [], 0.1)[0]:
        dripping.sendall(b" ")
    # To their ends: the service hangs up.
    for client in (silent, dripping):
        assert received(client).startswith(b"HTTP/1.1 408")


def test_more_requests_or_bytes_than_allowed_are_told_when_to_come_back(limited, champion):
    row = example(champion)
    waiting = [connect(limited) for _ in range(2)]
    for client in waiting:
        client.sendall(HEAD + b"content-length: 700\r\n\r\n{")
    until(lambda: limited.post("/predict", row).status == 429)
    assert int(limited.post("/predict", row).headers["retry-after"]) >= 1
    assert limited.get("/ping").status == 200
    waiting.pop().close()
    until(lambda: limited.post("/predict", row).status == 200)
    assert limited.post("/predict", [row] * 9).status == 429
    waiting.pop().close()
    until(lambda: limited.post("/predict", [row] * 9).status == 200)


def test_what_keeps_it_from_starting_is_one_line(champion):
    done = subprocess.run(
        [sys.executable, "-m", "mlops.serving", "models/nothing"], capture_output=True, text=True,
        timeout=60, check=False,
    )  # fmt: skip
    line = "error: models/nothing: found no bundle.json, expected a bundle's folder\n"
    assert (done.returncode, done.stderr) == (2, line)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        for port, reason in ((99999, ""), (taken.getsockname()[1], ": Address already in use")):
            with pytest.raises(UserError, match=f"{port}: can't listen there{reason}"):
                server._with_free_port(Settings(str(champion), port=port))
    with pytest.raises(UserError, match="expected a folder; `mlops serve` takes a model's URI"):
        server.main(["models:/flights/1"])
