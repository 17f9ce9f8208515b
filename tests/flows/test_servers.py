"""`make up` and `make down`: both servers or none, started once, stopped with all they started."""

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

MLOPS = Path(sys.executable).parent / "mlops"
STATUS = Path(".run/servers.json")


def starts_servers(test):
    return pytest.mark.slow(pytest.mark.nightly(test))


def pids(checkout):
    return json.loads((checkout.root / STATUS).read_text())["pids"]


@starts_servers
def test_up_starts_what_died_alone_at_its_address_and_down_ends_all_of_both(checkout, tmp_path):
    """Two repositories that start at once get servers of their own."""
    made, other = (checkout(tmp_path / name / "repository") for name in ("one", "other"))
    try:
        with ThreadPoolExecutor() as both:
            first, second = both.map(lambda one: one.run(MLOPS, "up"), (made, other))
        assert (first.code, second.code) == (0, 0), first.err + second.err
        addresses = [line.split()[1] for up in (first, second) for line in up.out.splitlines()[:2]]
        assert len(set(addresses)) == 4
        other.run(MLOPS, "down")
        before = pids(made)
        assert made.run(MLOPS, "up").out == first.out
        assert pids(made) == before
        os.killpg(before["prefect"], signal.SIGKILL)
        with ThreadPoolExecutor() as both:
            ups = list(both.map(lambda _: made.run(MLOPS, "up"), range(2)))
        assert [(again.code, again.out) for again in ups] == [(0, first.out)] * 2
        after = pids(made)
        assert after["mlflow"] == before["mlflow"]
        assert after["prefect"] != before["prefect"]
        groups = set(after.values())
    finally:
        other.run(MLOPS, "down")
        down = made.run(MLOPS, "down")
    assert (down.code, down.out, down.err) == (0, "stopped: mlflow, prefect\n", "")
    assert [p for p in psutil.process_iter() if group(p) in groups] == []
    again = made.run(MLOPS, "down")
    assert (again.code, again.out, again.err) == (0, "stopped: nothing ran\n", "")


def group(process):
    """The group of a process that runs; None when it has ended meanwhile."""
    try:
        ended = process.status() == psutil.STATUS_ZOMBIE
        return None if ended else os.getpgid(process.pid)
    except (psutil.NoSuchProcess, ProcessLookupError):
        return None


def write_status(root, text):
    (root / STATUS).parent.mkdir()
    (root / STATUS).write_text(text)


def test_a_process_that_only_has_the_number_of_a_server_is_neither_used_nor_stopped(tmp_path):
    """As after a restart of the machine."""
    with subprocess.Popen(["sleep", "600"], start_new_session=True) as other:
        urls = dict.fromkeys(servers.PORTS, "http://127.0.0.1:9")
        pids = dict.fromkeys(servers.PORTS, other.pid)
        write_status(tmp_path, json.dumps({"urls": urls, "pids": pids}))
        assert (servers.running(tmp_path), servers.use(tmp_path)) == ({}, {})
        assert servers.down(tmp_path) == []
        assert other.poll() is None
        other.kill()
    assert not (tmp_path / STATUS).exists()


@pytest.mark.parametrize("status", [None, "{"])
def test_without_a_valid_status_nothing_was_started(tmp_path, status):
    if status is not None:
        write_status(tmp_path, status)
    assert (servers.running(tmp_path), servers.down(tmp_path)) == ({}, [])
