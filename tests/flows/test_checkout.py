"""A scheduled run goes on as a process of the pinned revision, in the environment of its lock."""

from __future__ import annotations

import os
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest

from flows import checkout
from mlops.base import processes
from mlops.base.errors import UserError

MAKEFILE = "setup:\n\t@mkdir -p .venv/bin && echo made >> .venv/made\n"


@pytest.fixture
def origin(tmp_path):
    """A small repository; `make setup` says how often it was asked."""
    root = tmp_path / "origin"
    root.mkdir()
    for name in checkout.LOCKS:
        (root / name).write_text("one")
    (root / "Makefile").write_text(MAKEFILE)
    git(root, "init", "-q", "-b", "main")
    return root


@pytest.fixture
def workspace(tmp_path):
    """Where a worker's runs begin, in a repository of its own."""
    (tmp_path / "home/.dvc").mkdir(parents=True)
    folder = tmp_path / "home/.run/worker"
    folder.mkdir(parents=True)
    return folder


def git(root, *words):
    who = ("-c", "user.name=A Tester", "-c", "user.email=a@b.cd")
    return processes.run(["git", *who, *words], cwd=root).strip()


def commit(root, **files):
    for name, content in files.items():
        (root / name).write_text(content)
    git(root, "add", ".")
    git(root, "commit", "-qm", "A change", "--allow-empty")
    return git(root, "rev-parse", "HEAD")


@pytest.fixture(autouse=True)
def released():
    """Release what a test has locked: the end of a run's process does that."""
    before = set(os.listdir("/proc/self/fd"))
    yield
    for name in set(os.listdir("/proc/self/fd")) - before:
        with suppress(OSError):
            if "/run" not in os.readlink(f"/proc/self/fd/{name}"):
                os.close(int(name))


def test_a_revision_is_cloned_once_and_shares_what_outlives_it(origin, workspace):
    first = commit(origin)
    folder = checkout.ready(str(origin), first, workspace)
    assert git(folder, "rev-parse", "HEAD") == first
    assert git(folder, "status", "--porcelain") == ""
    home = workspace.parents[1]
    assert (folder / ".dvc/cache").resolve() == home / ".dvc/cache"
    assert (folder / ".run/local").resolve() == home / ".run/local"
    (folder / "models").mkdir()
    assert (checkout.ready(str(origin), first, workspace) / "models").is_dir()


def test_two_revisions_with_one_lock_share_its_environment(origin, workspace):
    folders = [checkout.ready(str(origin), commit(origin, a=text), workspace) for text in "xy"]
    assert len({folder.name for folder in folders}) == 2
    assert len({(folder / ".venv").resolve() for folder in folders}) == 1
    another = checkout.ready(str(origin), commit(origin, **{checkout.LOCKS[0]: "two"}), workspace)
    assert (another / ".venv").resolve() != (folders[0] / ".venv").resolve()


def test_what_no_process_holds_is_removed_when_another_revision_begins(origin, workspace):
    code = (
        "from flows import checkout; import sys; from pathlib import Path;"
        "checkout.ready(sys.argv[1], sys.argv[2], Path(sys.argv[3]))"
    )
    first = commit(origin)
    ended = ["python", "-c", code, str(origin), first, str(workspace)]
    subprocess.run(ended, check=True)
    assert (workspace / checkout.REVISIONS / first).is_dir()
    second = checkout.ready(str(origin), commit(origin, a="x"), workspace)
    assert list((workspace / checkout.REVISIONS).iterdir()) == [second]
    checkout.ready(str(origin), commit(origin, a="y"), workspace)
    assert second.is_dir()


def test_a_revision_or_environment_that_is_not_there_is_one_line(origin, workspace):
    revision = commit(origin, Makefile="setup:\n\t@echo no network >&2; exit 2\n")
    with pytest.raises(UserError, match=r"^git checkout: .*0{40}"):
        checkout.ready(str(origin), "0" * 40, workspace)
    assert list((workspace / checkout.REVISIONS).iterdir()) == []
    with pytest.raises(UserError, match="^make --silent: no network$"):
        checkout.ready(str(origin), revision, workspace)


def test_the_process_goes_on_with_the_revisions_own_code(origin, workspace, monkeypatch):
    became = []
    monkeypatch.chdir(workspace)
    monkeypatch.setattr(os, "execve", lambda *call: became.append(call) or exit_())
    revision = commit(origin)
    with pytest.raises(SystemExit):
        checkout.enter(str(origin), revision)
    ((program, words, env),) = became
    folder = workspace / checkout.REVISIONS / revision
    assert Path.cwd() == folder
    assert program == words[0] == str(folder / ".venv/bin/python")
    assert env["PYTHONPATH"].split(":") == [str(folder), str(folder / "src")]
    monkeypatch.setenv(checkout.ENTERED, env[checkout.ENTERED])
    assert checkout.enter(str(origin), revision) == {"directory": str(folder)}


def exit_():
    raise SystemExit
