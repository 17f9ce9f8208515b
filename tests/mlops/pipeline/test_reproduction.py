"""What is recorded of a stage is true and kept; DVC's own lock holds nothing for dead processes."""

import json
import os
import re
import signal
import subprocess
from contextlib import nullcontext

import pytest
import yaml
from dvc.repo import Repo

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


@pytest.fixture
def trips(repository, tmp_path, monkeypatch):
    """A repository in which nothing has run yet."""
    root = repository("trips", tmp_path / "trips").root
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(tmp_path / "site"))
    monkeypatch.chdir(root)
    Repo.init(no_scm=True).close()
    return root


def recorded(root):
    return list(yaml.safe_load((root / RECORD).read_text())["stages"])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("spoilt", "reason"),
    [
        ("a file", "Not a directory"),
        pytest.param("full", "No space left on device", marks=pytest.mark.nightly),
    ],
)
def test_an_output_that_dvc_cannot_keep_fails_with_its_reason_and_is_not_recorded(
    trips, small_disk, capfd, spoilt, reason
):
    cache = trips / ".dvc/cache"
    cache.mkdir(exist_ok=True)
    if spoilt == "a file":
        cache.rmdir()
        cache.touch()
    else:
        small_disk(cache)
    with pytest.raises(reproduction.StageFailed) as failed, reproduction.alone(trips):
        reproduction.reproduce("ingest", trips)
    assert failed.value.exit_code == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert re.match(rf"error: ingest: .*\[Errno \d+\] {reason}", line)
    assert recorded(trips) == ["fingerprint"]


def test_a_file_that_dvc_only_logs_as_not_copied_fails_too(trips):
    """As on a disk that is full, or here, where one folder of the cache is on one that is away."""
    pipeline(trips, "mkdir raw && echo 2 > raw/file")
    (trips / ".dvc/cache/files/md5").mkdir(parents=True)
    (trips / ".dvc/cache/files/md5/26").symlink_to("/proc/away")
    with pytest.raises(reproduction.StageFailed, match="^DVC can't keep its output: .*Errno"):
        reproduction.reproduce("ingest", trips)
    assert recorded(trips) == ["fingerprint"]


def pipeline(root, command):
    """A pipeline whose stage is a command that checks nothing itself."""
    stages = {"fingerprint": {"cmd": "echo 1 > state", "outs": ["state"]}}
    stages["ingest"] = {"cmd": command, "deps": ["csv"], "params": ["data.until"], "outs": ["raw"]}
    (root / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}))


@pytest.mark.parametrize(
    ("moving", "moved"),
    [
        ("echo more >> csv/trips.csv", "csv/trips.csv"),
        ("touch csv/new", "csv/new"),
        ("sed -i s/2023-03-31/2023-02-28/ params.yaml", "params.yaml: data"),
        ("sed -i s/max_evals/another/ params.yaml", None),
    ],
)
def test_an_input_that_changes_until_dvc_records_it_is_named_and_not_recorded(trips, moving, moved):
    pipeline(trips, f"cp -r csv raw && {moving}")
    with pytest.raises(UserError) if moved else nullcontext() as error:
        reproduction.reproduce("ingest", trips)
    runs = [path.read_text() for path in (trips / ".dvc/cache/runs").glob("*/*/*")]
    if moved:
        assert str(error.value) == f"ingest: {moved} changed while the stage ran; run again"
    assert ("ingest" in recorded(trips), any("raw" in run for run in runs)) == (not moved,) * 2
