"""Each stage and verb is killed at some moment: the next run ends as if nothing had been."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from mlflow import MlflowClient

from mlops.contract.stages import MADE_BY_DVC, RECORD
from tests.conftest import OUTPUTS
from tests.mlops.gitops.conftest import COMMAND, Clone, committed

pytestmark = [pytest.mark.slow, pytest.mark.nightly, pytest.mark.timeout(900)]
DVC = (sys.executable, "-m", "dvc")
HOLDOUT = ("--input", "data/features/holdout.parquet")
SCORE = ("score", "models/bundle", *HOLDOUT, "--output", "scored.parquet", "--replace")
COMMANDS = {
    **{stage: (*DVC, "repro", "--single-item", "--force", stage) for stage in MADE_BY_DVC},
    **{verb: (*COMMAND, verb) for verb in ("register", "report")},
    "gate": (*COMMAND, "gate", "--base", "HEAD"),
    "score": (*COMMAND, *SCORE),
}
LONGEST_SECONDS = 5.0
# What tools write for themselves.
OWN = ("/.git/", "/.dvc/", "/mlruns/", "/logs/", "/.run/", "/__pycache__/", "/verdict/")


@pytest.fixture(scope="session")
def original(shared, trained):
    """A committed repository whose outputs are those of its own code."""

    def make(folder: Path) -> None:
        clone = committed(trained("wine").copy(folder / "repository"), folder / "remote.git")
        for command in ("gate", "register", "report", "score"):
            assert ended(clone.root, command) == 0

    folder = shared.folder("kills", make)
    workspace = trained("wine")
    return Clone(type(workspace)(folder / "repository", workspace.store), folder / "remote.git")


def start(root: Path, command: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        COMMANDS[command], cwd=root, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(root / "src")}, start_new_session=True,
    )  # fmt: skip


def ended(root: Path, command: str) -> int:
    return start(root, command).wait(timeout=300)


def files(root: Path) -> set[str]:
    every = (str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())
    return {name for name in every if not any(own in f"/{name}" for own in OWN)}


def spoilt(cache: Path) -> list[Path]:
    """The cache's files whose content is not what they are named for."""
    return [
        path for path in cache.glob("files/md5/??/*")
        if hashlib.md5(path.read_bytes()).hexdigest() != (path.parent.name + path.name)[:32]
    ]  # fmt: skip


def registered(root: Path) -> list[Any]:
    client = MlflowClient(f"sqlite:///{root / 'mlruns/mlflow.db'}")
    return list(client.search_model_versions("name = 'wine-model'"))


def left_over(root: Path) -> list[str]:
    """The processes that still run there."""
    found = []
    for process in psutil.process_iter(["cwd", "cmdline"]):
        if str(process.info["cwd"]).startswith(str(root)):
            found.append(" ".join(process.info["cmdline"]))
    return found


def test_a_killed_stage_or_verb_is_made_good_by_the_next_run(original, tmp_path):
    root = tmp_path / "repository"
    shutil.copytree(original.root, root, symlinks=True)
    digests = {stage: original.workspace.digest(OUTPUTS[stage]) for stage in MADE_BY_DVC}
    before, record = files(root), (root / RECORD).read_bytes()
    dice = random.Random(2013)
    for command in COMMANDS:
        seconds = dice.uniform(0, LONGEST_SECONDS)
        process = start(root, command)
        time.sleep(seconds)
        process.send_signal(signal.SIGKILL)
        process.wait()
        note = f"{command}, killed after {seconds:.2f} s"
        deadline = time.monotonic() + 30
        while left_over(root) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert left_over(root) == [], note
        assert ended(root, command) == 0, note
        found = {stage: type(original.workspace)(root, root).digest(OUTPUTS[stage])
                 for stage in MADE_BY_DVC}  # fmt: skip
        assert found == digests, note
        assert (root / RECORD).read_bytes() == record, note
        assert files(root) == before, note
        assert spoilt(root / ".dvc/cache") == [], note
        assert len(registered(root)) == 1, note
    done = subprocess.run(
        [*DVC, "repro", MADE_BY_DVC[-1]], cwd=root, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert (root / RECORD).read_bytes() == record
