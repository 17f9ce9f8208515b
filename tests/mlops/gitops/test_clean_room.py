"""Main releases what it made of reviewed code: no cache of a pull request decides its bytes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from contextlib import chdir
from dataclasses import replace
from pathlib import Path

import pytest
from dvc.repo import Repo

from mlops.contract.stages import MADE_BY_DVC, RECORD
from mlops.gitops import release
from mlops.gitops.pins import pin_at
from mlops.registry import publish
from tests.conftest import PROJECTS
from tests.mlops.deploy.processes import stop
from tests.mlops.gitops.test_retrain import FLOW, QUICK

HONEST, POISONED = '(F.col("delay") > LATE', '(F.col("delay") <= LATE'
BUNDLE, LABELS = "models/bundle", Path("src/trips/features.py")
pytestmark = [pytest.mark.nightly, pytest.mark.timeout(900)]


@pytest.fixture
def team(clone, tmp_path, monkeypatch):
    """A project's own code on main, which no job has trained, and two empty remotes of DVC."""
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(tmp_path / "site"))
    (clone.root / "src/trips").unlink()
    shutil.copytree(PROJECTS / "trips", clone.root / "src/trips")
    clone.workspace.change(QUICK)
    (clone.root / RECORD).unlink()
    clone.commit("A project")
    return clone


def job(team, folder, default):
    """What a job begins with: main, its source, both remotes, no cache of DVC's."""
    team.git("clone", "--quiet", str(team.remote), str(folder))
    shutil.copytree(team.root / "csv", folder / "csv")
    shutil.copytree(team.workspace.store, folder / "mlruns")
    urls = {name: folder.parent / name for name in ("releases", "proposals")}
    sections = "".join(f"['remote \"{name}\"']\n    url = {url}\n" for name, url in urls.items())
    (folder / ".dvc/config.local").write_text(f"[core]\n    remote = {default}\n{sections}")
    return replace(team, workspace=replace(team.workspace, root=folder))


def train(job):
    """How each stage got its output."""
    done = subprocess.run(
        [sys.executable, "-c", FLOW], cwd=job.root, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(job.root / "src")},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    return dict(words for words in lines if len(words) == 2 and words[0] in MADE_BY_DVC)


def attack(team, tmp_path):
    """Labels altered, trained on and put back, the record rewritten; the digest of what it made."""
    labels = team.root / LABELS
    labels.write_text(labels.read_text().replace(HONEST, POISONED))
    branch = job(team, tmp_path / "branch", "proposals")
    shutil.copy(labels, branch.root / LABELS)
    assert POISONED in labels.read_text()
    train(branch)
    team.git("checkout", "--quiet", "--", str(LABELS))
    branch.git("checkout", "--quiet", "--", str(LABELS))
    with chdir(branch.root), Repo(".") as repo:
        repo.commit(force=True)
    assert "pushed to DVC's remote 'proposals'" in publish.run(branch.root)
    # What is merged is an innocent line, and the lock.
    shutil.copy(branch.root / RECORD, team.root / RECORD)
    (team.root / "README.md").write_text("An innocent line.\n")
    team.commit("An innocent line")
    return branch.workspace.digest(BUNDLE)


def test_a_poisoned_cache_of_a_pull_request_is_neither_restored_nor_proposed(team, forge, tmp_path):
    poisoned = attack(team, tmp_path)

    trusting = job(team, tmp_path / "trusting", "releases")
    with (trusting.root / "params.yaml").open("a") as file:
        file.write("release: {trust: pull-requests}\n")
    assert set(train(trusting).values()) == {"restored"}
    assert trusting.workspace.digest(BUNDLE) == poisoned

    main = job(team, tmp_path / "main", "releases")
    assert train(main) == dict.fromkeys(MADE_BY_DVC, "run")
    assert main.workspace.digest(BUNDLE) != poisoned
    main.workspace.run("register")
    publish.run(main.root)
    assert main.judge().accepted
    with chdir(main.root):
        line = release.release(Path(), "staging", forge)
    said = "not reproduced: featurize: same inputs and other bytes"
    assert line.startswith(said)
    assert said.capitalize() in forge.opened[0][3]
    main.git("fetch", "--quiet", "origin", "release/staging")
    assert pin_at(main.root, "FETCH_HEAD", "staging").digest == main.workspace.digest(BUNDLE)
    assert poisoned not in main.git("show", "FETCH_HEAD") + forge.opened[0][3]

    # A pull request's job reads what main has released.
    team.git("fetch", "--quiet", "origin", "release/staging")
    team.merge("release/staging")
    later = job(team, tmp_path / "proposing", "proposals")
    assert set(train(later).values()) == {"restored"}
    assert later.workspace.digest(BUNDLE) == main.workspace.digest(BUNDLE)
    stop(main.root)
