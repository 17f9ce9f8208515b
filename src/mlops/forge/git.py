"""Git: read any commit, write one without touching the workspace, push it where it is expected."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from mlops.base.errors import UserError, one_line

REMOTE = "origin"
BOT = "mlops"
# The author on a machine that has none configured.
IDENTITY = {
    f"GIT_{role}_{key}": value
    for role in ("AUTHOR", "COMMITTER")
    for key, value in (("NAME", BOT), ("EMAIL", "mlops@users.noreply.invalid"))
}
QUIET = {"GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}


class GitError(UserError):
    """Git refused a command; the message is the line of its output that says why."""


class Change(NamedTuple):
    """One commit that changed a file."""

    commit: str
    day: str
    author: str
    subject: str


def git(
    root: Path, *arguments: str, stdin: bytes = b"", env: Mapping[str, str] | None = None
) -> str:
    """The standard output of a Git command. Raises GitError when it fails."""
    try:
        process = subprocess.run(
            ["git", *arguments], cwd=root, input=stdin, capture_output=True, check=False,
            env={**os.environ, **QUIET, **(env or {})},
        )  # fmt: skip
    except FileNotFoundError:
        raise UserError("git: not found on the PATH") from None
    if process.returncode:
        lines = process.stderr.decode(errors="replace").strip().splitlines() or ["no reason given"]
        errors = [line for line in lines if line.startswith(("fatal", "error", " !"))]
        raise GitError(f"git {arguments[0]}: {one_line((errors or lines[-1:])[0])}")
    return process.stdout.decode()


def _succeeds(root: Path, *arguments: str) -> bool:
    try:
        git(root, *arguments)
    except GitError:
        return False
    return True


def commit(root: Path, ref: str) -> str:
    """The commit that a name stands for. Raises GitError where there is none in this clone."""
    try:
        return git(root, "rev-parse", "--verify", "--quiet", f"{ref}^{{commit}}").strip()
    except GitError:
        raise GitError(f"{ref}: no such commit here") from None


def exists(root: Path, ref: str) -> bool:
    """Whether a name stands for a commit in this clone."""
    return _succeeds(root, "rev-parse", "--verify", "--quiet", f"{ref}^{{commit}}")


def show(root: Path, ref: str, file: Path) -> str | None:
    """A file's text at a commit; None when it is not there. Raises GitError for no such commit."""
    commit_id = commit(root, ref)
    if not git(root, "ls-tree", commit_id, "--", file.as_posix()):
        return None
    return git(root, "show", f"{commit_id}:{file.as_posix()}")


def changes(root: Path, ref: str, file: Path) -> list[Change]:
    """The commits of the main line that changed a file, newest first."""
    form = "%H%x09%cs%x09%an%x09%s"
    log = git(root, "log", "--first-parent", f"--format={form}", ref, "--", file.as_posix())
    return [Change(*line.split("\t", 3)) for line in log.splitlines()]


def changed(root: Path) -> list[str]:
    """The tracked files that differ from what is checked out."""
    return git(root, "diff", "--name-only", "-z", "HEAD").split("\0")[:-1]


def is_ancestor(root: Path, older: str, newer: str) -> bool:
    """Whether `newer` has `older` in its history."""
    return _succeeds(root, "merge-base", "--is-ancestor", older, newer)


def has_remote(root: Path) -> bool:
    """Whether there is a remote to push to."""
    return REMOTE in git(root, "remote").split()


def main_branch(root: Path) -> str:
    """The branch that releases come from: the remote's default, else `main`."""
    try:
        head = git(root, "symbolic-ref", "--quiet", "--short", f"refs/remotes/{REMOTE}/HEAD")
        return head.strip().removeprefix(f"{REMOTE}/")
    except GitError:
        return "main"


def base(root: Path) -> str:
    """What a branch is compared with: the remote's main branch; without a remote, HEAD.

    Raises UserError where that branch was not fetched: a branch must not choose its own champion.
    """
    if not has_remote(root):
        return "HEAD"
    main = f"{REMOTE}/{main_branch(root)}"
    if not exists(root, main):
        raise UserError(f"{main}: not here; `git fetch {REMOTE}`, or say --base REF")
    return main


def tip(root: Path) -> str:
    """The newest commit of the remote's main branch, fetched; without a remote, HEAD."""
    if not has_remote(root):
        return commit(root, "HEAD")
    name = main_branch(root)
    refs = f"+refs/heads/{name}:refs/remotes/{REMOTE}/{name}"
    git(root, "fetch", "--quiet", "--no-tags", REMOTE, refs)
    return commit(root, f"{REMOTE}/{name}")


def remote_head(root: Path, branch: str) -> str:
    """The commit of the remote's branch, fetched; "" without such a branch, or a remote."""
    if not has_remote(root):
        return ""
    head, *_ = git(root, "ls-remote", REMOTE, f"refs/heads/{branch}").split() or [""]
    if head:
        git(root, "fetch", "--quiet", "--no-tags", REMOTE, head)
    return head


def write(root: Path, parent: str, files: Mapping[Path, bytes], message: str) -> str:
    """Write a commit on `parent` with these files changed, leaving workspace and index; its id."""
    with tempfile.TemporaryDirectory() as folder:
        index = {"GIT_INDEX_FILE": str(Path(folder) / "index")}
        git(root, "read-tree", parent, env=index)
        for file, content in files.items():
            blob = git(root, "hash-object", "-w", "--stdin", stdin=content).strip()
            entry = f"100644,{blob},{file.as_posix()}"
            git(root, "update-index", "--add", "--cacheinfo", entry, env=index)
        tree = git(root, "write-tree", env=index).strip()
    env = {} if _succeeds(root, "config", "user.email") else IDENTITY
    return git(root, "commit-tree", tree, "-p", parent, stdin=message.encode(), env=env).strip()


def push(root: Path, commit_id: str, branch: str, expected: str) -> None:
    """Make the remote's branch point to a commit, if it still is where it was `expected`.

    Raises GitError when somebody else moved it in between, or may not push.
    """
    name = f"refs/heads/{branch}"
    lease = f"--force-with-lease={name}:{expected}"
    git(root, "push", "--quiet", lease, REMOTE, f"{commit_id}:{name}")
