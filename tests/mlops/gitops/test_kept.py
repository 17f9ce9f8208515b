"""Without a DVC remote, what was released is in Git: no cache has to outlive a machine."""

from __future__ import annotations

import os
import shutil
import signal
import time
from contextlib import chdir
from dataclasses import replace
from pathlib import Path

import pytest

from mlops.base.errors import UserError
from mlops.base.files import folder_digest
from mlops.contract.paths import BUNDLE, EVIDENCE
from mlops.gitops import prepared, release
from mlops.gitops.pins import pin_at
from mlops.registry import store
from mlops.registry.pin import BRANCH
from tests.mlops.deploy.processes import stop

CACHES = (".dvc/cache", ".dvc/tmp", "mlruns", ".run", "verdict")


def evict(clone):
    """Nothing is left but what Git tracks, and this machine's outputs."""
    stop(clone.root)
    for name in CACHES:
        shutil.rmtree(clone.root / name, ignore_errors=True)


def fresh(clone, folder):
    clone.git("clone", "--quiet", str(clone.remote), str(folder))
    return replace(clone, workspace=replace(clone.workspace, root=folder))


def released(clone, forge):
    """A release that was merged; its pin."""
    assert clone.judge().accepted
    with chdir(clone.root):
        release.release(Path(), "staging", forge)
    clone.merge("release/staging")
    return pin_at(clone.root, "HEAD", "staging")


def kept(clone):
    """The digests of the folders on the branch."""
    clone.git("fetch", "--quiet", "origin", BRANCH)
    return set(clone.git("ls-tree", "--name-only", "FETCH_HEAD").splitlines())


def test_a_clone_with_nothing_but_gits_remote_has_bundle_and_evidence_byte_for_byte(
    clone, forge, tmp_path
):
    pin = released(clone, forge)
    assert kept(clone) == {pin.digest, pin.evidence}
    bare = fresh(clone, tmp_path / "fresh")
    before = bare.git("status", "--porcelain"), bare.git("rev-parse", "HEAD")
    fetched = store.fetch(pin, bare.root)
    digests = [folder_digest(fetched / part) for part in (BUNDLE, EVIDENCE)]
    assert digests == [pin.digest, pin.evidence]
    assert (bare.git("status", "--porcelain"), bare.git("rev-parse", "HEAD")) == before
    assert bare.git("rev-parse", "--is-shallow-repository") == "false"

    # What a job has checked out, it has without the credentials to ask for it.
    shutil.rmtree(fetched)
    bare.git("fetch", "--quiet", "origin")
    clone.remote.rename(tmp_path / "away")
    assert folder_digest(store.fetch(pin, bare.root) / BUNDLE) == pin.digest


def test_what_is_kept_already_is_not_pushed_again_and_what_was_altered_is_mended(clone, forge):
    pin = released(clone, forge)
    head = clone.git("ls-remote", "origin", BRANCH)
    with chdir(clone.root):
        prepared.keep(Path(), Path(), pin)
        assert clone.git("ls-remote", "origin", BRANCH) == head
        alter(clone, pin)
        prepared.keep(Path(), Path(), pin)
    evict(clone)
    assert folder_digest(store.fetch(pin, clone.root) / BUNDLE) == pin.digest


def alter(clone, pin):
    from mlops.forge import branches

    head = branches.head(clone.root, BRANCH)
    file = Path(pin.digest) / BUNDLE / "model.onnx"
    branches.push(clone.root, branches.write(clone.root, head, {file: b"?"}, "?"), BRANCH, head)


def delete(clone, pin):
    clone.git("push", "--quiet", "origin", "--delete", BRANCH)


def go_away(clone, pin):
    clone.remote.rename(clone.remote.with_name("away"))


@pytest.mark.parametrize(
    ("happens", "reason"),
    [
        (delete, "Git: not there"),
        (alter, r"Git: found digest \w+, expected \w+"),
        (go_away, "Git: git ls-remote: fatal: .* does not appear to be a git repository"),
    ],
)
def test_a_branch_that_does_not_have_the_bytes_is_a_line_with_each_stores_reason(
    clone, forge, tmp_path, happens, reason
):
    pin = released(clone, forge)
    bare = fresh(clone, tmp_path / "fresh")
    bare.git("update-ref", "-d", f"refs/remotes/origin/{BRANCH}")
    happens(clone, pin)
    line = rf"bundle \w+: DVC's cache: not there; {reason}; MLflow: nothing was tracked here; .*"
    with pytest.raises(UserError, match=f"^{line}$"):
        store.fetch(pin, bare.root)


def test_a_release_that_is_killed_while_it_pushes_leaves_nothing_and_the_next_completes(
    clone, tmp_path
):
    assert clone.judge().accepted
    hook, reached = clone.remote / "hooks/pre-receive", tmp_path / "reached"
    hook.write_text(f"#!/bin/sh\ntouch {reached}\nexec sleep 60\n")
    hook.chmod(0o755)
    process = clone.start("release", "staging")
    deadline = time.monotonic() + 60
    while not reached.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert reached.exists()
    assert clone.git("ls-remote", "origin", BRANCH, "release/*") == ""
    hook.unlink()
    code, out, err = clone.command("release", "staging")
    assert (code, err) == (0, "")
    assert "branch release/staging pushed" in out
    assert len(kept(clone)) == 2


def test_two_that_release_at_once_keep_both_bundles(clone, tmp_path):
    early = clone.copy(tmp_path / "early")
    early.git("remote", "set-url", "origin", str(clone.remote))
    clone.challenge()
    assert early.judge().accepted
    assert clone.judge().accepted
    processes = [one.start("release", "staging") for one in (early, clone)]
    ends = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], ends
    parts = {
        one.workspace.digest(str(part)) for one in (early, clone) for part in (BUNDLE, EVIDENCE)
    }
    assert kept(clone) == parts


def test_what_is_too_large_for_git_is_refused_and_without_a_remote_the_branch_is_here(clone, forge):
    clone.workspace.change({"gate.size_mb": 0.001, "gate.rules": ["limits"]})
    clone.commit("Small")
    assert clone.judge().accepted
    line = "bundle: found .* MB, expected at most 0.002 MB, .*`dvc remote add"
    with chdir(clone.root), pytest.raises(UserError, match=line):
        release.release(Path(), "staging", forge)
    assert clone.git("ls-remote", "origin", BRANCH, "release/*") == ""
    clone.workspace.change({"gate.size_mb": 50.0})
    clone.commit("Large")
    assert clone.judge().accepted
    clone.git("remote", "remove", "origin")
    with chdir(clone.root):
        assert "no remote to push it to" in release.release(Path(), "staging", forge)
    pin = pin_at(clone.root, "release/staging", "staging")
    evict(clone)
    assert folder_digest(store.fetch(pin, clone.root) / BUNDLE) == pin.digest
