"""Commits are written without touching the workspace, and pushed only onto what was expected."""

import subprocess
from pathlib import Path

import pytest

from mlops.base.errors import UserError
from mlops.forge import git

FILE = Path("folder/file.txt")


@pytest.fixture
def root(tmp_path):
    remote, root = tmp_path / "remote.git", tmp_path / "clone"
    subprocess.run(["git", "init", "-q", "--bare", "-b", "main", remote], check=True)
    subprocess.run(["git", "clone", "-q", remote, root], check=True, capture_output=True)
    for name, value in {"user.name": "A Tester", "user.email": "a@b.cd"}.items():
        git.git(root, "config", name, value)
    git.git(root, "switch", "--quiet", "--create", "main")
    (root / "kept.txt").write_text("kept\n")
    git.git(root, "add", ".")
    git.git(root, "commit", "--quiet", "--message", "start")
    git.git(root, "push", "--quiet", "origin", "main")
    return root


def test_a_commit_is_written_without_touching_workspace_or_index(root):
    (root / "kept.txt").write_text("being edited\n")
    before = git.git(root, "status", "--porcelain"), git.commit(root, "HEAD")
    made = git.write(root, "HEAD", {FILE: b"new\n"}, "A change\n\nwhy\n")
    assert (git.git(root, "status", "--porcelain"), git.commit(root, "HEAD")) == before
    assert git.show(root, made, FILE) == "new\n"
    assert git.show(root, made, Path("kept.txt")) == "kept\n"
    assert git.git(root, "log", "-1", "--format=%s|%an", made).strip() == "A change|A Tester"


def test_a_machine_without_a_name_commits_as_the_bot(root, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    git.git(root, "config", "--unset", "user.email")
    made = git.write(root, "HEAD", {FILE: b"new\n"}, "A change")
    assert git.git(root, "log", "-1", "--format=%an", made).strip() == git.BOT


def test_a_file_that_is_not_at_a_commit_is_none_and_no_commit_an_error_in_one_line(root):
    assert git.show(root, "HEAD", FILE) is None
    with pytest.raises(UserError, match="nowhere: no such commit here"):
        git.show(root, "nowhere", FILE)
    assert not git.exists(root, "nowhere")


def test_a_push_onto_what_was_expected_succeeds_and_onto_anything_else_fails(root):
    first = git.write(root, "HEAD", {FILE: b"1\n"}, "first")
    second = git.write(root, "HEAD", {FILE: b"2\n"}, "second")
    git.push(root, first, "release/x", expected="")
    with pytest.raises(git.GitError):
        git.push(root, second, "release/x", expected="")
    assert git.remote_head(root, "release/x") == first
    git.push(root, second, "release/x", expected=first)
    assert git.remote_head(root, "release/x") == second


def test_the_changes_of_a_file_come_newest_first_and_uncommitted_ones_are_named(root):
    for number in range(2):
        (root / "kept.txt").write_text(f"{number}\n")
        git.git(root, "commit", "--quiet", "--all", "--message", f"change {number}")
    subjects = [change.subject for change in git.changes(root, "HEAD", Path("kept.txt"))]
    assert subjects == ["change 1", "change 0", "start"]
    (root / "kept.txt").write_text("edited\n")
    (root / "new.txt").write_text("new\n")
    assert git.changed(root) == ["kept.txt"]
