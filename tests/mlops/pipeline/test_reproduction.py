"""DVC's own lock file holds nothing for processes that are no more."""

import json
import os
import signal
import subprocess

import pytest

from mlops.base import processes
from mlops.base.errors import UserError
from mlops.contract.stages import RECORD
from mlops.pipeline import reproduction


@pytest.fixture
def lock(tmp_path):
    path = tmp_path / reproduction.DVCS_LOCK
    path.parent.mkdir(parents=True)
    return path


def held_by(pid):
    info = {"pid": pid, "cmd": "dvc repro"}
    return {"write": {"/outputs": info}, "read": {"/inputs": [info]}}


def test_what_a_living_process_holds_is_kept(tmp_path, lock):
    lock.write_text(json.dumps(held_by(os.getpid())))
    with reproduction.alone(tmp_path):
        assert json.loads(lock.read_text()) == held_by(os.getpid())


def test_what_a_zombie_process_holds_is_dropped(tmp_path, lock):
    process = subprocess.Popen(["true"])
    assert processes.wait(lambda: not processes.runs(process.pid))
    lock.write_text(json.dumps(held_by(process.pid)))
    with reproduction.alone(tmp_path):
        assert not lock.exists()
    process.wait()


@pytest.mark.parametrize(
    "content",
    [json.dumps(held_by(os.getpid())), '{"write": {"/out', "{}"],
    ids=["held by an earlier process of that number", "cut short", "empty"],
)
def test_a_lock_that_no_process_holds_is_dropped(tmp_path, lock, content):
    lock.write_text(content)
    os.utime(lock, (0, 0))
    with reproduction.alone(tmp_path):
        assert not lock.exists()


@pytest.mark.parametrize(
    ("code", "number"),
    [
        (-9, signal.SIGKILL), (-15, signal.SIGTERM), (137, signal.SIGKILL), (143, signal.SIGTERM),
        (1, None), (70, None), (128, None), (255, None),
    ],
)  # fmt: skip
def test_a_signal_is_known_by_the_code_of_the_command_or_of_its_shell(code, number):
    assert reproduction.ended_by(code) is number


def test_a_record_that_a_merge_left_in_conflict_is_named_with_the_cure(tmp_path):
    text = "schema: '2.0'\n<<<<<<< HEAD\nstages: {}\n=======\nstages: {a: {}}\n>>>>>>> theirs\n"
    (tmp_path / RECORD).write_text(text)
    line = r"dvc\.lock: line 2: a merge conflict; take either side whole .*, then `make retrain`"
    with pytest.raises(UserError, match=f"^{line}$"), reproduction.alone(tmp_path):
        pytest.fail("it went on")
    assert (tmp_path / RECORD).read_text() == text


@pytest.mark.parametrize("before", ["schema: '2.0'\n", ""])
def test_a_record_that_was_cut_short_by_a_kill_is_restored(tmp_path, before):
    kept = tmp_path / reproduction.RECORD_BEFORE
    kept.parent.mkdir(parents=True)
    kept.write_text(before)
    record = tmp_path / RECORD
    record.write_text("sche")
    with reproduction.alone(tmp_path):
        assert (record.read_text() if record.exists() else "") == before
    assert not kept.exists()
