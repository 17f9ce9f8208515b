"""DVC's remote alone gives the pinned bundle, on a machine where no other store has it."""

import re
import shutil
from contextlib import chdir
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from mlops.base.errors import UserError
from mlops.base.files import folder_digest
from mlops.contract.paths import BUNDLE, EVIDENCE
from mlops.gitops import prepared
from mlops.registry import publish, store
from tests.mlops.deploy.processes import stop


@pytest.fixture
def fresh(clone, tmp_path, monkeypatch):
    """Another machine: what Git has, another bundle than the pinned one in it, and the remote."""
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(tmp_path / "site"))
    pin = clone.judged_pin()
    (clone.root / ".dvc/config").write_text(
        f"[core]\n    remote = store\n['remote \"store\"']\n    url = {tmp_path / 'remote'}\n"
    )
    publish.run(clone.root)
    for environment in ("staging", "production"):
        clone.pin(environment, pin)
    publish.run(clone.challenge().root)
    root = tmp_path / "fresh"
    clone.git("clone", "--quiet", str(clone.remote), str(root))
    shutil.rmtree(clone.root)
    yield replace(clone, workspace=replace(clone.workspace, root=root)), pin
    stop(root)


def damage(objects):
    """Cut short every file but the folders' listings; DVC trusts what is read-only."""
    for file in objects.glob("??/*[!r]"):
        file.chmod(0o644)
        file.write_bytes(file.read_bytes()[:-1])
        file.chmod(0o444)


def test_the_remote_alone_gives_bundle_and_evidence_past_a_damaged_cache_too(fresh, tmp_path):
    clone, pin = fresh
    for _ in ("no cache", "a damaged one"):
        fetched = store.fetch(pin, clone.root)
        digests = [folder_digest(fetched / part) for part in (BUNDLE, EVIDENCE)]
        assert digests == [pin.digest, pin.evidence]
        shutil.rmtree(fetched)
        shutil.copytree(tmp_path / "remote", clone.root / ".dvc/cache", dirs_exist_ok=True)
        damage(clone.root / ".dvc/cache/files/md5")


def test_a_bundle_that_was_tampered_with_is_refused_from_every_store(clone, tmp_path, monkeypatch):
    pin = clone.judged_pin()
    (clone.root / ".dvc/config").write_text(
        f"[core]\n    remote = store\n['remote \"store\"']\n    url = {tmp_path / 'remote'}\n"
    )
    publish.run(clone.root)
    with chdir(clone.root):
        prepared.keep(Path(), Path(), pin)
    every, names = store._stores, []

    def tampered(copy, target):
        copy()
        file = next(target.rglob("*.onnx"), None) or next(target.rglob("*.parquet"))
        file.chmod(0o644)
        file.write_bytes(file.read_bytes()[:-1] + b"?")

    def stores(part, model, root, target):
        for name, copy in every(part, model, root, target):
            names.append(name)
            yield name, partial(tampered, copy, target)

    monkeypatch.setattr(store, "_stores", stores)
    with pytest.raises(UserError) as refused:
        store.fetch(pin, clone.root)
    assert names == ["DVC's cache", "DVC's remote 'store'", "Git", "MLflow"]
    for name in names:
        assert re.search(
            rf"{name}: found digest \w+, expected {pin.digest[:12]}", str(refused.value)
        )
    assert not (clone.root / store.STORE / pin.digest).exists()


def test_what_no_store_has_whole_is_a_line_with_each_ones_reason(fresh, tmp_path):
    clone, pin = fresh
    shutil.copytree(clone.workspace.store, clone.root / "mlruns")
    damage(tmp_path / "remote/files/md5")
    line = (
        rf"bundle (\w+): DVC's cache: not there; DVC's remote 'store': found digest \w+, "
        r"expected \1; Git: not there; "
        rf"MLflow: no run of it in sqlite:///{clone.root.resolve()}/mlruns/mlflow.db; `mlops pub"
    )
    with pytest.raises(UserError, match=rf"^{line}"):
        store.fetch(pin, clone.root)
