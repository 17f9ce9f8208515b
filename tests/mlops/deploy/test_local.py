"""This machine as a target: what is deployed is served, whatever ends; its router is fair."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
from contextlib import chdir, suppress
from functools import partial

import psutil
import pytest
import requests
import yaml

from mlops.base import processes
from mlops.base.errors import UserError
from mlops.deploy import local, smoke_test
from mlops.deploy.local import control
from mlops.deploy.local.backend import SAMPLE_FILES
from mlops.deploy.local.home import ADDRESS, HOME, PROCESSES, SAMPLES, STATE, Home
from mlops.deploy.local.supervisor import BODY_BYTES
from mlops.deploy.manifest import Rollout
from mlops.deploy.target import Endpoint
from tests.mlops.deploy import small
from tests.mlops.deploy.load import post
from tests.mlops.deploy.processes import ended
from tests.mlops.deploy.small import FAR, ROWS

pytestmark = pytest.mark.slow


def answering(place):
    return post(place.url, ROWS[0])[1]["x-model-digest"]


def test_the_first_answers_all_and_a_second_one_waits_until_it_is_given_a_share(place):
    (first,) = place.deploy(1.0)
    status, headers, content = post(place.url, ROWS[0])
    assert (status, headers["x-model-digest"], headers["x-model-version"]) == (200, first, "1")
    assert headers["x-request-id"] == content["id"]
    assert (place.current.traffic, place.current.answers) == ({first: 100}, "yes")
    (second,) = place.deploy(2.0)
    before = [process.pid for process in place.processes().values()]
    place.deploy_again(second)
    assert [process.pid for process in place.processes().values()] == before
    assert place.current.traffic == {first: 100, second: 0}
    assert {answering(place) for _ in range(50)} == {first}
    place.traffic((first, 90), (second, 10))
    # Of 100 requests 10 in the mean, 3 standard deviations on either side and a half.
    assert 1 <= [answering(place) for _ in range(100)].count(second) <= 25


def test_a_killed_process_loses_no_request_and_is_started_again(place):
    first, second = place.deploy(1.0, 2.0)
    place.traffic((first, 50), (second, 50))
    with place.load() as clients:
        clients.wait(50, second)
        killed = place.kill(second)
        clients.wait(50, first)
        assert processes.wait(lambda: place.processes()[second].pid != killed)
        clients.wait(50, second)
    assert clients.failed == []
    assert local.health(place.endpoint, second).errors > 0
    assert local.health(place.endpoint, first).errors == 0
    assert place.current.answers == "yes"


def serving(place, **options):
    """Write the environment's manifest with these options of its service."""
    file = place.root / "environments/staging.yaml"
    file.parent.mkdir(exist_ok=True)
    content = {"target": "local", "endpoint": place.endpoint.name, "serving": options, "pin": None}
    file.write_text(yaml.safe_dump(content, sort_keys=False))


def test_options_that_no_service_starts_with_leave_what_runs_and_others_reach_it(place):
    (digest,) = place.deploy(1.0)
    before = place.processes()[digest].pid
    serving(place, store="redis", features="NOT_SET/x")
    with place.load() as clients:
        clients.wait(100)
        with pytest.raises(UserError, match="ended with"):
            place.deploy_again(digest)
        clients.wait(100)
        assert place.current.outdated.startswith("serving: runs with --store embedded ")
        assert (place.processes()[digest].pid, place.current.answers) == (before, "yes")
        serving(place, stale_after=6)
        place.deploy_again(digest)
        clients.wait(100)
    assert clients.failed == []
    assert place.processes()[digest].pid != before
    assert place.current.outdated == ""


def test_a_supervisor_of_another_version_is_started_anew(place, monkeypatch):
    (digest,) = place.deploy(1.0)
    before, status = place.supervisor, control.status
    reported = status(place.home)
    assert reported
    others = iter([dataclasses.replace(reported, form=0)])
    monkeypatch.setattr(control, "status", lambda home: next(others, None) or status(home))
    place.deploy_again(digest)
    assert place.supervisor != before
    assert answering(place) == digest


@pytest.mark.nightly
def test_a_killed_supervisor_takes_its_processes_along_and_is_brought_back(place):
    first, second = place.deploy(1.0, 2.0)
    url, workers = place.url, [process.pid for process in place.processes().values()]
    os.kill(place.supervisor, signal.SIGKILL)
    for pid in workers:
        ended(pid)
    assert place.current.traffic == {first: 100, second: 0}
    assert place.current.answers == "no"
    # Whichever verb comes next.
    assert local.ask(place.endpoint, second, ROWS[:1]).scores
    place.deploy_again(first)
    assert (place.current.answers, place.url) == ("yes", url)


@pytest.mark.nightly
def test_of_two_supervisors_one_ends(place):
    (digest,) = place.deploy(1.0)
    pid = place.supervisor
    command = [sys.executable, "-m", "mlops.deploy.local.supervisor", str(place.root), "staging"]
    assert subprocess.run(command, check=False, timeout=60).returncode == 0
    assert (place.supervisor, answering(place)) == (pid, digest)


def test_removing_the_last_one_ends_everything(place, tmp_path):
    gone = tmp_path / "gone"
    gone.mkdir()
    # The folder of a command may be removed once it has ended.
    with chdir(gone):
        (first,) = place.deploy(1.0)
    gone.rmdir()
    (second,) = place.deploy(2.0)
    pid = place.supervisor
    place.traffic((first, 0), (second, 100))
    local.remove(place.endpoint, first)
    assert place.current.traffic == {second: 100}
    assert (place.copies, answering(place)) == ([second], second)
    local.remove(place.endpoint, second)
    ended(pid)
    assert place.current.traffic == {}
    assert not place.home.folder.exists()


@pytest.mark.nightly
def test_a_supervisor_whose_folder_is_removed_ends_by_itself(place):
    place.deploy(1.0)
    pid = place.supervisor
    shutil.rmtree(place.root)
    ended(pid)
    assert not place.root.exists()


def test_a_state_that_is_restored_elsewhere_says_what_is_deployed_and_can_be_started(place):
    (digest,) = place.deploy(1.0)
    other = Endpoint("staging", "small", place.base / "another-runner")
    # A copy of the whole folder started nothing either, though it has the files of what did.
    for copied in (HOME, PROCESSES):
        shutil.copytree(place.root / copied, other.root / copied)
        assert local.current(other).traffic == {digest: 100}
        assert local.current(other).answers == "elsewhere"
    local.deploy(other, place.pin(digest), place.folders[digest])
    assert local.current(other).answers == "yes"
    # The state names the same port, which the first one still holds.
    assert local.current(other).address not in ("", place.url)


def test_bytes_that_were_changed_have_another_digest_and_are_put_right(place):
    (digest,) = place.deploy(1.0)
    card = place.home.folder / digest / "bundle.json"
    card.write_text(card.read_text() + " ")
    assert list(place.current.traffic.values()) == [100]
    assert digest not in place.current.traffic
    place.deploy_again(digest)
    assert place.current.traffic == {digest: 100}


@pytest.mark.nightly
def test_a_process_that_serves_other_bytes_than_named_is_sent_nothing(place):
    """The changed bytes are a whole bundle: the card was made for them."""
    (digest,), other = place.deploy(1.0), place.bundle(3.0)
    with place.load() as clients:
        clients.wait(20)
        shutil.rmtree(place.home.folder / digest)
        shutil.copytree(place.folders[other], place.home.folder / digest)
        place.kill(digest)
        assert processes.wait(lambda: "serves" in place.processes()[digest].reason)
        assert place.current.answers == "no"
        place.deploy_again(digest)
        clients.wait(20)
    assert clients.failed == []
    assert set(clients.answered) == {digest}


@pytest.mark.nightly
def test_a_bundle_whose_process_does_not_come_up_leaves_what_runs(place, monkeypatch):
    """It was whole when it was tested."""
    (first,), second = place.deploy(1.0), place.bundle(2.0)
    monkeypatch.setattr(
        smoke_test, "passes", lambda folder, *_: (folder / "model.onnx").write_bytes(b"")
    )
    with pytest.raises(UserError, match=r"is not served: ended with 2; see \.run/serving"):
        place.deploy_again(second)
    assert place.current.traffic == {first: 100}
    assert place.copies == [first]


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        ("line = Unknown (x, slope)", "does not run here: "),
        ("line = Add (x, slope)", r"this machine: its reference rows score 0\.\d+ off"),
    ],
)
def test_a_bundle_that_fails_its_smoke_test_is_not_deployed(place, nodes, message):
    with pytest.raises(UserError, match=message):
        place.deploy(1.0, make=partial(small.written, nodes=nodes))
    assert (place.current.traffic, place.copies) == ({}, [])


def test_a_token_is_required_of_clients_and_used_by_the_verbs(place, monkeypatch):
    monkeypatch.setenv("MLOPS_SERVING_TOKEN", "open-sesame")
    (digest,) = place.deploy(1.0)
    # The next verb's environment need not have it; nobody else may read it.
    monkeypatch.delenv("MLOPS_SERVING_TOKEN")
    assert (place.home.processes / ADDRESS).stat().st_mode & 0o077 == 0
    assert post(place.url, ROWS[0])[0] == 401
    assert post(place.url, ROWS[0], {"authorization": "Bearer open-sesame"})[0] == 200
    assert local.ask(place.endpoint, digest, ROWS[:1]).scores
    assert sum(local.health(place.endpoint, digest).scores) == 2


def test_two_environments_stand_side_by_side(place):
    (first,), second = place.deploy(1.0), place.bundle(2.0)
    production = Endpoint("production", "small", place.root)
    local.deploy(production, place.pin(second), place.folders[second])
    assert place.current.traffic == {first: 100}
    assert local.current(production).traffic == {second: 100}
    assert Home(place.root, "production").address() != place.home.address()


def test_requests_and_answers_are_kept_for_monitoring_within_bounds(place):
    samples = place.home.folder / SAMPLES
    samples.mkdir(parents=True)
    for number in range(SAMPLE_FILES + 3):
        (samples / f"predictions-{number}.jsonl").write_text("")
        os.utime(samples / f"predictions-{number}.jsonl", (number, number))
    (digest,) = place.deploy(1.0)
    _, headers, _ = post(place.url, ROWS[0])
    assert processes.wait(lambda: any(file.stat().st_size for file in samples.iterdir()))
    lines = [line for file in samples.iterdir() for line in file.read_text().splitlines()]
    kept = [json.loads(line) for line in lines]
    assert {line["digest"] for line in kept} == {digest}
    assert headers["x-request-id"] in {line["request"] for line in kept}
    assert len(list(samples.iterdir())) == SAMPLE_FILES + 1
    assert not (samples / "predictions-2.jsonl").exists()


@pytest.mark.nightly
def test_a_process_that_hangs_is_replaced_and_its_request_answered(place):
    (digest,) = place.deploy(1.0)
    pid = place.processes()[digest].pid
    service = psutil.Process(pid)
    for process in (service, *service.children(recursive=True)):
        process.suspend()
    assert post(place.url, ROWS[0])[0] == 200
    assert processes.wait(lambda: place.processes()[digest].pid != pid)


@pytest.mark.nightly
def test_a_bundle_without_a_folder_is_not_deployed(place):
    first, second = place.deploy(1.0, 2.0)
    shutil.rmtree(place.home.folder / first)
    assert place.current.traffic == {second: 0}
    assert first in (place.home.folder / STATE).read_text()
    list(place.roll_out(second, Rollout()))
    assert (place.current.traffic, place.current.answers) == ({second: 100}, "yes")
    assert answering(place) == second


def test_a_shadow_is_counted_and_nobody_waits_for_it(place):
    (first,), (second,) = place.deploy(1.0), place.deploy(2.0, make=small.slow)
    place.traffic((first, 100), (second, 0), mirror={second: 100})
    assert {post(place.url, row)[1]["x-model-digest"] for row in ROWS} == {first}

    def counted():
        return local.health(place.endpoint, second).requests == len(ROWS)

    assert processes.wait(counted)
    health = local.health(place.endpoint, second)
    assert sum(health.scores) == len(ROWS)
    assert health.seconds > local.health(place.endpoint, first).seconds


def test_what_one_version_refuses_and_the_other_answers_is_a_failure_of_the_first(place):
    (first,), (second,) = place.deploy(1.0), place.deploy(2.0, make=small.made)

    def errors():
        return local.health(place.endpoint, second).errors

    for share, mirror in ((99, 0), (0, 100)):
        place.traffic((first, 100 - share), (second, share), mirror={second: mirror})
        before, answers = errors(), [post(place.url, row) for row in ROWS]
        assert {(code, head["x-model-digest"]) for code, head, _ in answers} == {(200, first)}
        assert processes.wait(lambda before=before: errors() > before)
        # What both refuse is the client's own mistake.
        assert post(place.url, {"y": 1.0})[0] == 422
        assert local.health(place.endpoint, first).errors == 0
        assert errors() - before <= len(ROWS)


def test_all_answers_are_passed_on_and_those_of_500_and_above_are_errors(place):
    (digest,) = place.deploy(1.0, make=small.failing)
    assert post(place.url, {"x": FAR + 1})[0] == 500
    assert post(place.url, {"x": "no number"})[0] == 422
    health = local.health(place.endpoint, digest)
    assert (health.requests, health.errors) == (2, 1)
    # Every path and protocol goes through, too large a body does not.
    for path in ("/ping", "/v2/models/small", "/docs", "/openapi.json", "/metrics", "/model?x=%20"):
        response = requests.get(place.url + path, timeout=60)
        assert (response.status_code, response.headers["x-model-digest"]) == (200, digest), path
    response = requests.get(f"{place.url}/no%2Fwhere", timeout=60)
    assert (response.status_code, bool(response.content)) == (404, True)
    csv = {"content-type": "text/csv"}
    response = requests.post(f"{place.url}/invocations", b"x\n0.5\n", headers=csv, timeout=60)
    assert (response.status_code, bool(response.json()["predictions"])) == (200, True)
    # The connection may be closed before all of it is sent.
    with suppress(requests.ConnectionError):
        large = b" " * (BODY_BYTES + 1)
        assert requests.post(f"{place.url}/predict", large, timeout=60).status_code == 413
    assert post(place.url, ROWS[0])[0] == 200
