"""Each store alone gives the pinned bundle: on a fresh clone, with the others really gone."""

from __future__ import annotations

import re
import shutil
from contextlib import chdir
from dataclasses import replace
from pathlib import Path

import pytest
from dvc.repo import Repo

from mlops.base.errors import UserError
from mlops.base.files import folder_digest
from mlops.contract.paths import BUNDLE, EVIDENCE
from mlops.gitops import verdict
from mlops.registry import publish, store
from tests.mlops.deploy.processes import stop


@pytest.fixture
def pinned(clone, tmp_path):
    """A repository whose environments pin a bundle, another one in it, both in a remote."""
    pin = clone.judged_pin()
    (clone.root / ".dvc/config").write_text(
        f"[core]\n    remote = store\n['remote \"store\"']\n    url = {tmp_path / 'remote'}\n"
    )
    publish.run(clone.root)
    for environment in ("staging", "production"):
        clone.pin(environment, pin)
    publish.run(clone.challenge().root)
    return clone, pin


@pytest.fixture
def fresh(pinned, tmp_path, monkeypatch):
    """Another machine: what Git has, and the remote; the first one's cache and store are gone."""
    clone, pin = pinned
    root = tmp_path / "fresh"
    clone.git("clone", "--quiet", str(clone.remote), str(root))
    for folder in (".dvc/cache", "mlruns", ".run", "models", "reports"):
        shutil.rmtree(clone.root / folder, ignore_errors=True)
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(tmp_path / "site"))
    made = replace(clone, workspace=replace(clone.workspace, root=root))
    yield made, pin
    stop(root)


def test_the_remote_alone_gives_bundle_and_evidence(fresh):
    clone, pin = fresh
    fetched = store.fetch(pin, clone.root)
    assert folder_digest(fetched / BUNDLE) == pin.digest
    assert folder_digest(fetched / EVIDENCE) == pin.evidence
    assert not (clone.root / "mlruns").exists()


@pytest.mark.nightly
def test_the_remote_alone_is_enough_for_every_verb_that_needs_the_bundle(fresh):
    clone, pin = fresh
    for verb in ("reconcile", "monitor"):
        code, _, err = clone.command(verb, "staging")
        assert (code, err) == (0, ""), verb
        shutil.rmtree(clone.root / store.STORE)
        shutil.rmtree(clone.root / "mlruns", ignore_errors=True)
    # The candidate is here, the champion in the remote.
    with chdir(clone.root), Repo(".") as repo:
        repo.pull()
    clone.command("gate", "--base", "HEAD")
    with chdir(clone.root):
        judged = verdict.load(Path())
    assert (judged.champion, judged.champion_by) == (pin.digest, "its bundle")


def test_a_damaged_cache_is_passed_over(fresh, tmp_path):
    clone, pin = fresh
    shutil.copytree(tmp_path / "remote/files", clone.root / ".dvc/cache/files")
    damage(clone.root / ".dvc/cache/files/md5")
    fetched = store.fetch(pin, clone.root)
    assert folder_digest(fetched / BUNDLE) == pin.digest


def damage(objects):
    """Cut short every file but the folders' listings; DVC trusts what is read-only."""
    for file in objects.glob("??/*[!r]"):
        file.chmod(0o644)
        file.write_bytes(file.read_bytes()[:-1])
        file.chmod(0o444)


def test_what_no_store_has_whole_is_a_line_with_each_ones_reason(fresh, tmp_path):
    clone, pin = fresh
    shutil.copytree(clone.workspace.store, clone.root / "mlruns")
    damage(tmp_path / "remote/files/md5")
    with pytest.raises(UserError) as error:
        store.fetch(pin, clone.root)
    short, runs = pin.digest[:12], clone.root.resolve() / "mlruns/mlflow.db"
    found = re.escape(f"bundle {short}: DVC's cache: not there; DVC's remote: found digest ")
    rest = re.escape(f", expected {short}; MLflow: no run of it in sqlite:///{runs}")
    assert re.fullmatch(rf"{found}\w{{12}}{rest}", str(error.value))
