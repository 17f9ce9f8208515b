"""This machine as a target: what is deployed is served, whatever dies."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

from mlops.base.errors import UserError
from mlops.deploy import local
from mlops.deploy.local import control
from mlops.deploy.local.backend import MOST_FILES
from mlops.deploy.local.home import CURRENT, HOME, LOCK, PROCESSES, SAMPLES, STATE, Home
from mlops.deploy.target import Endpoint
from tests.mlops.deploy.bundles import ROWS
from tests.mlops.deploy.load import Load, post
from tests.mlops.deploy.processes import ended

pytestmark = pytest.mark.slow


def processes(place):
    return control.status(place.home).bundles


def load(place, **how):
    return Load(place.url, ROWS, place.expected, **how)


def test_the_first_bundle_answers_all_with_its_name_version_and_digest(place):
    digest = place.deploy(place.bundle(1.0))
    status, headers, answer = post(place.url, ROWS[0])
    assert status == 200
    assert headers["x-model-digest"] == digest
    assert headers["x-model-version"] == "1"
    assert headers["x-request-id"] == answer["id"]
    assert place.current.traffic == {digest: 100}
    assert place.current.answers == "yes"
    assert (place.home.folder / CURRENT).read_text().strip() == digest


def test_a_second_one_waits_beside_it_until_it_is_given_a_share(place):
    first, second = (place.deploy(place.bundle(slope)) for slope in (1.0, 2.0))
    assert place.current.traffic == {first: 100, second: 0}
    with load(place) as clients:
        clients.wait(50)
    assert set(clients.answered) == {first}
    local.traffic(place.endpoint, {first: 90, second: 10})
    said = [post(place.url, ROWS[0])[1]["x-model-digest"] for _ in range(100)]
    assert 9 <= said.count(second) <= 11
    assert (place.home.folder / CURRENT).read_text().strip() == first


def test_deploying_again_changes_nothing(place):
    digest = place.deploy(place.bundle(1.0))
    before = processes(place)
    place.deploy(digest)
    assert processes(place) == before


def test_a_killed_process_loses_no_request_and_is_started_again(place):
    digest = place.deploy(place.bundle(1.0))
    with load(place) as clients:
        clients.wait(100)
        killed = processes(place)[digest].pid
        os.kill(killed, signal.SIGKILL)
        clients.wait(500)
    assert clients.failed == []
    assert processes(place)[digest].pid != killed
    assert place.current.answers == "yes"


def test_a_killed_supervisor_takes_its_processes_along_and_is_brought_back(place):
    digest = place.deploy(place.bundle(1.0))
    url, workers = place.url, [process.pid for process in processes(place).values()]
    os.kill(place.home.address().pid, signal.SIGKILL)
    for pid in workers:
        ended(pid)
    assert place.current.traffic == {digest: 100}
    assert place.current.answers == "no"
    place.deploy(digest)
    assert place.current.answers == "yes"
    assert place.url == url


def test_a_verb_that_finds_no_supervisor_starts_one(place):
    first, second = (place.deploy(place.bundle(slope)) for slope in (1.0, 2.0))
    os.kill(place.home.address().pid, signal.SIGKILL)
    assert local.ask(place.endpoint, second, ROWS[:1]).scores
    local.traffic(place.endpoint, {first: 0, second: 100})
    assert post(place.url, ROWS[0])[1]["x-model-digest"] == second


def test_of_two_supervisors_one_goes(place):
    place.deploy(place.bundle(1.0))
    pid = place.home.address().pid
    command = [sys.executable, "-m", "mlops.deploy.local.supervisor", str(place.root), "staging"]
    assert subprocess.run(command, check=False, timeout=60).returncode == 0
    assert place.home.address().pid == pid
    assert post(place.url, ROWS[0])[0] == 200


def test_removing_the_last_one_ends_everything(place):
    first, second = (place.deploy(place.bundle(slope)) for slope in (1.0, 2.0))
    pid, url = place.home.address().pid, place.url
    local.traffic(place.endpoint, {first: 0, second: 100})
    local.remove(place.endpoint, first)
    assert place.current.traffic == {second: 100}
    assert not (place.home.folder / first).exists()
    assert post(url, ROWS[0])[1]["x-model-digest"] == second
    local.remove(place.endpoint, second)
    ended(pid)
    assert place.current.traffic == {}
    assert not place.home.folder.exists()


def test_one_that_is_removed_under_load_ends_what_it_began(place):
    first, second = (place.deploy(place.bundle(slope)) for slope in (1.0, 2.0))
    local.traffic(place.endpoint, {first: 50, second: 50})
    with load(place, clients=8) as clients:
        clients.wait(100)
        local.traffic(place.endpoint, {first: 0, second: 100})
        local.remove(place.endpoint, first)
        clients.wait(100, second)
    assert clients.failed == []


def test_a_supervisor_whose_folder_is_wiped_ends_by_itself(place):
    place.deploy(place.bundle(1.0))
    pid = place.home.address().pid
    shutil.rmtree(place.root)
    ended(pid)
    assert not place.root.exists()


def test_a_state_that_is_restored_elsewhere_says_what_is_deployed_and_can_be_started(place):
    digest = place.deploy(place.bundle(1.0))
    other = place.base / "another-runner"
    shutil.copytree(place.root / HOME, other / HOME)
    there = Endpoint("staging", "small", other)
    assert local.current(there).traffic == {digest: 100}
    assert local.current(there).answers == "elsewhere"
    local.deploy(there, place.pin(digest), place.folders[digest])
    assert local.current(there).answers == "yes"
    # The port was taken: the first one still runs.
    assert local.current(there).address not in ("", place.url)


def test_a_copy_of_the_whole_folder_started_nothing(place):
    digest = place.deploy(place.bundle(1.0))
    other = place.base / "copy"
    shutil.copytree(place.root, other)
    assert (other / PROCESSES / "staging" / LOCK).exists()
    assert local.current(Endpoint("staging", "small", other)).answers == "elsewhere"
    assert local.current(Endpoint("staging", "small", other)).traffic == {digest: 100}


def test_what_was_placed_before_there_was_a_state_counts_as_deployed(place):
    digest = place.deploy(place.bundle(1.0))
    other = place.base / "older"
    shutil.copytree(place.root / HOME, other / HOME)
    (other / HOME / "staging" / STATE).unlink()
    assert local.current(Endpoint("staging", "small", other)).traffic == {digest: 100}


def test_bytes_that_were_changed_have_another_digest_and_are_put_right(place):
    digest = place.deploy(place.bundle(1.0))
    card = place.home.folder / digest / "bundle.json"
    card.write_text(card.read_text() + " ")
    assert list(place.current.traffic.values()) == [100]
    assert digest not in place.current.traffic
    place.deploy(digest)
    assert place.current.traffic == {digest: 100}


def test_a_process_that_serves_other_bytes_than_named_is_not_sent_anything(place):
    """Changed bytes that hold together: the card was made anew for them."""
    digest, other = place.deploy(place.bundle(1.0)), place.bundle(3.0)
    with load(place) as clients:
        clients.wait(20)
        shutil.rmtree(place.home.folder / digest)
        shutil.copytree(place.folders[other], place.home.folder / digest)
        os.kill(processes(place)[digest].pid, signal.SIGKILL)
        while "serves" not in processes(place)[digest].reason:
            time.sleep(0.02)
        assert place.current.answers == "no"
        place.deploy(digest)
        clients.wait(20)
    assert clients.failed == []
    assert set(clients.answered) == {digest}


def test_a_bundle_whose_process_does_not_come_up_leaves_what_runs(place, monkeypatch):
    """It was whole when it was tested."""
    first = place.deploy(place.bundle(1.0))
    second = place.bundle(2.0)
    monkeypatch.setattr(
        local.smoke, "test", lambda folder: (folder / "model.onnx").write_bytes(b"")
    )
    with pytest.raises(UserError, match=r"is not served: ended with 2; see \.run/serving"):
        place.deploy(second)
    assert place.current.traffic == {first: 100}
    assert place.placed == [first]


def test_a_token_is_asked_of_clients_and_known_to_the_verbs(place, monkeypatch):
    monkeypatch.setenv("MLOPS_SERVING_TOKEN", "open sesame")
    digest = place.deploy(place.bundle(1.0))
    assert post(place.url, ROWS[0])[0] == 401
    token = {"content-type": "application/json", "authorization": "Bearer open sesame"}
    assert post(place.url, ROWS[0], token)[0] == 200
    assert local.ask(place.endpoint, digest, ROWS[:1]).scores
    assert sum(local.health(place.endpoint, digest).scores) == 2


def test_the_supervisor_obeys_nobody_without_its_key(place):
    import http.client

    place.deploy(place.bundle(1.0))
    address = place.home.address()
    assert (place.home.processes / "supervisor.json").stat().st_mode & 0o077 == 0
    client = http.client.HTTPConnection("127.0.0.1", address.port)
    client.request("GET", "/status")
    assert client.getresponse().status == 401
    client.close()


def test_two_environments_stand_side_by_side(place):
    first = place.deploy(place.bundle(1.0))
    second = place.bundle(2.0)
    production = Endpoint("production", "small", place.root)
    local.deploy(production, place.pin(second), place.folders[second])
    assert place.current.traffic == {first: 100}
    assert local.current(production).traffic == {second: 100}
    assert Home(place.root, "production").address() != place.home.address()


def test_what_was_asked_and_answered_is_kept_for_monitoring_within_bounds(place):
    samples = place.home.folder / SAMPLES
    samples.mkdir(parents=True)
    for number in range(MOST_FILES + 3):
        (samples / f"predictions-{number}.jsonl").write_text("")
        os.utime(samples / f"predictions-{number}.jsonl", (number, number))
    digest = place.deploy(place.bundle(1.0))
    _, headers, _ = post(place.url, ROWS[0])
    deadline = time.monotonic() + 10
    while not (written := [f for f in samples.iterdir() if f.stat().st_size]):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    kept = [json.loads(line) for line in written[0].read_text().splitlines()]
    assert {line["digest"] for line in kept} == {digest}
    assert headers["x-request-id"] in {line["request"] for line in kept}
    assert len(list(samples.iterdir())) == MOST_FILES + 1
    assert not (samples / "predictions-2.jsonl").exists()
