"""DVC's own lock file holds nothing for processes that are no more."""

import json
import os
import signal
import subprocess
import time

import pytest

from mlops.pipeline import reproduction


@pytest.fixture
def lock(tmp_path):
    path = tmp_path / reproduction.DVCS_LOCK
    path.parent.mkdir(parents=True)
    return path


def held_by(pid):
    info = {"pid": pid, "cmd": "dvc repro"}
    return {"write": {"/outputs": info}, "read": {"/inputs": [info]}}


def left(tmp_path, lock):
    with reproduction.alone(tmp_path):
        return json.loads(lock.read_text())


def test_what_a_living_process_holds_is_kept(tmp_path, lock):
    lock.write_text(json.dumps(held_by(os.getpid())))
    assert left(tmp_path, lock) == held_by(os.getpid())


def test_what_a_killed_process_that_nobody_buried_holds_is_dropped(tmp_path, lock):
    process = subprocess.Popen(["true"])
    while not _is_zombie(process.pid):
        time.sleep(0.01)
    lock.write_text(json.dumps(held_by(process.pid)))
    with reproduction.alone(tmp_path):
        assert not lock.exists()
    process.wait()


def _is_zombie(pid):
    import psutil

    return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_what_a_process_held_whose_number_another_has_now_is_dropped(tmp_path, lock):
    lock.write_text(json.dumps(held_by(os.getpid())))
    os.utime(lock, (0, 0))
    with reproduction.alone(tmp_path):
        assert not lock.exists()


def test_a_file_that_was_cut_short_is_forgotten(tmp_path, lock):
    lock.write_text('{"write": {"/out')
    with reproduction.alone(tmp_path):
        assert not lock.exists()


def test_a_file_that_holds_nothing_is_removed(tmp_path, lock):
    lock.write_text("{}")
    with reproduction.alone(tmp_path):
        assert not lock.exists()


def test_without_the_file_there_is_nothing_to_forget(tmp_path):
    with reproduction.alone(tmp_path):
        assert not (tmp_path / reproduction.DVCS_LOCK).exists()


@pytest.mark.parametrize(
    ("code", "number"),
    [
        (-9, signal.SIGKILL), (-15, signal.SIGTERM), (137, signal.SIGKILL), (143, signal.SIGTERM),
        (1, None), (70, None), (128, None), (255, None),
    ],
)  # fmt: skip
def test_a_signal_is_known_by_the_code_of_the_command_or_of_its_shell(code, number):
    assert reproduction.ended_by(code) is number


@pytest.mark.parametrize("before", ["schema: '2.0'\n", ""])
def test_a_record_that_was_cut_short_by_a_kill_is_restored(tmp_path, before):
    kept = tmp_path / reproduction.RECORD_BEFORE
    kept.parent.mkdir(parents=True)
    kept.write_text(before)
    record = tmp_path / reproduction.RECORD
    record.write_text("sche")
    with reproduction.alone(tmp_path):
        assert (record.read_text() if record.exists() else "") == before
    assert not kept.exists()
