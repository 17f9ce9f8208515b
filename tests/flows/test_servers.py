"""`make up` and `make down`: both servers or none, started once, stopped for good."""

import json
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from mlops.pipeline import servers

BIN = Path(sys.executable).parent
STATUS = Path(".run/servers.json")


def pids(checkout):
    return json.loads((checkout.root / STATUS).read_text())["pids"]


@pytest.mark.slow
@pytest.mark.nightly
def test_up_again_keeps_the_servers_that_run(served):
    before = pids(served.checkout)
    again = served.checkout.run(BIN / "mlops", "up")
    assert (again.code, again.out) == (0, served.up.out)
    assert pids(served.checkout) == before
    assert all(psutil.pid_exists(pid) for pid in before.values())


@pytest.fixture(scope="module")
def revived(checkout, tmp_path_factory):
    """A repository with servers, of which one died before `up` was asked for again."""
    made = checkout(tmp_path_factory.mktemp("revived") / "repository")
    try:
        assert made.run(BIN / "mlops", "up").code == 0
        before = pids(made)
        os.killpg(before["mlflow"], signal.SIGKILL)
        yield made, before, made.run(BIN / "mlops", "up")
    finally:
        made.run(BIN / "mlops", "down")


@pytest.mark.slow
@pytest.mark.nightly
def test_when_one_server_has_died_up_starts_both_anew(revived):
    _, before, again = revived
    assert again.code == 0
    assert [line.split()[0] for line in again.out.splitlines()] == ["mlflow", "prefect"]
    assert not any(psutil.pid_exists(pid) for pid in before.values())


@pytest.mark.slow
@pytest.mark.nightly
def test_down_stops_both_with_all_their_processes_and_can_be_repeated(revived):
    checkout, _, _ = revived
    groups = set(pids(checkout).values())
    down = checkout.run(BIN / "mlops", "down")
    assert (down.code, down.out, down.err) == (0, "stopped: mlflow, prefect\n", "")
    assert [p for p in psutil.process_iter() if group(p) in groups] == []
    again = checkout.run(BIN / "mlops", "down")
    assert (again.code, again.out, again.err) == (0, "stopped: nothing ran\n", "")


def group(process):
    """The group of a process that runs, or nothing when it has ended meanwhile."""
    try:
        ended = process.status() == psutil.STATUS_ZOMBIE
        return None if ended else os.getpgid(process.pid)
    except (psutil.NoSuchProcess, ProcessLookupError):
        return None


@pytest.fixture
def bystander():
    """A process of somebody else's."""
    process = subprocess.Popen(["sleep", "60"], start_new_session=True)
    yield process
    process.kill()
    process.wait()


@pytest.fixture
def stale(tmp_path, bystander):
    """What a restart of the machine leaves: servers that are gone, their numbers another's."""
    status = {
        "urls": dict.fromkeys(servers.PORTS, "http://127.0.0.1:9"),
        "pids": dict.fromkeys(servers.PORTS, bystander.pid),
    }
    (tmp_path / STATUS).parent.mkdir()
    (tmp_path / STATUS).write_text(json.dumps(status))
    return tmp_path


def test_servers_that_are_gone_are_not_used(stale):
    assert servers.running(stale) == {}
    assert servers.use(stale) == {}


def test_down_stops_no_process_that_only_has_the_number_of_a_server(stale, bystander):
    assert servers.down(stale) == []
    assert bystander.poll() is None
    assert not (stale / STATUS).exists()


@pytest.mark.parametrize("status", ["", "{"])
def test_a_status_that_is_no_status_counts_as_none(tmp_path, status):
    (tmp_path / STATUS).parent.mkdir()
    (tmp_path / STATUS).write_text(status)
    assert (servers.running(tmp_path), servers.down(tmp_path)) == ({}, [])


def test_down_where_nothing_was_ever_started_is_no_error(tmp_path):
    assert servers.down(tmp_path) == []


@pytest.mark.slow
@pytest.mark.nightly
def test_two_repositories_that_start_at_once_get_servers_of_their_own(checkout, tmp_path):
    made = [checkout(tmp_path / name / "repository") for name in ("one", "other")]
    try:
        with ThreadPoolExecutor() as both:
            ups = list(both.map(lambda one: one.run(BIN / "mlops", "up"), made))
        assert [up.code for up in ups] == [0, 0]
        addresses = [line.split()[1] for up in ups for line in up.out.splitlines()]
        assert len(set(addresses)) == 4
    finally:
        for one in made:
            one.run(BIN / "mlops", "down")
