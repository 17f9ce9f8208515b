"""Branches that a program writes: commits made without touching the workspace, and pushed.

Files are named as the project's folder has them.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from mlops.base.errors import UserError
from mlops.forge.git import ATTEMPTS, GitError, commit, exists, git, prefix, remote, succeeds

BOT = "mlops"
# The author on a machine that has none configured.
IDENTITY = {
    f"GIT_{role}_{key}": value
    for role in ("AUTHOR", "COMMITTER")
    for key, value in (("NAME", BOT), ("EMAIL", "mlops@users.noreply.invalid"))
}


def head(root: Path, branch: str) -> str:
    """The commit of the remote's branch, fetched, or without a remote of this clone's; else ""."""
    name, ref = remote(root), f"refs/heads/{branch}"
    if not name:
        return commit(root, ref) if exists(root, ref) else ""
    found, *_ = git(root, "ls-remote", name, ref).split() or [""]
    if found:
        git(root, "fetch", "--quiet", "--no-tags", name, found)
    return found


def folder_at(root: Path, ref: str, folder: Path) -> dict[Path, bytes]:
    """The files of a folder at a commit, by their path in it; none where it is not there."""
    # Not `git archive`, which changes line ends as a person's settings and attributes say.
    listed = git(root, "ls-tree", "-r", "-z", ref, "--", f"{folder.as_posix()}/", errors="strict")
    files = {}
    for line in listed.split("\0")[:-1]:
        _, kind, blob, name = re.split("[ \t]", line, maxsplit=3)
        path = Path(name).relative_to(folder)
        # Git takes a tree of any names from a remote.
        if kind != "blob" or ".." in path.parts:
            raise UserError(f"{name} at {ref}: found no plain file")
        content = git(root, "cat-file", "blob", blob, errors="surrogateescape")
        files[path] = content.encode(errors="surrogateescape")
    return files


def write(
    root: Path, parent: str, files: Mapping[Path, bytes], message: str,
    replaced: Collection[Path] = (),
) -> str:  # fmt: skip
    """Write a commit on `parent` with these files changed, leaving workspace and index; its id.

    Without a parent it is the first of a branch. Of what is `replaced` nothing else is left.
    """
    within = prefix(root)
    with tempfile.TemporaryDirectory() as folder:
        index = {"GIT_INDEX_FILE": str(Path(folder) / "index")}
        git(root, "read-tree", parent or "--empty", env=index)
        for place in replaced:
            listed = git(root, "ls-files", "-z", "--", str(place), env=index)
            forget = ("update-index", "--force-remove", "-z", "--stdin")
            git(root, *forget, stdin=listed.encode(), env=index)
        for file, content in files.items():
            blob = git(root, "hash-object", "-w", "--stdin", stdin=content).strip()
            entry = f"100644,{blob},{within}{file.as_posix()}"
            git(root, "update-index", "--add", "--cacheinfo", entry, env=index)
        tree = git(root, "write-tree", env=index).strip()
    named = succeeds(root, "-c", "user.useConfigOnly=true", "var", "GIT_COMMITTER_IDENT")
    env = {} if named else IDENTITY
    onto = ("-p", parent) if parent else ()
    return git(root, "commit-tree", tree, *onto, stdin=message.encode(), env=env).strip()


def push(root: Path, commit_id: str, branch: str, expected: str) -> None:
    """Make the remote's branch point to a commit, if it still is where it was `expected`.

    Raises GitError when somebody else moved it in between, or may not push.
    """
    name = f"refs/heads/{branch}"
    lease = f"--force-with-lease={name}:{expected}"
    git(root, "push", "--quiet", lease, remote(root), f"{commit_id}:{name}")


def update(root: Path, branch: str, make: Callable[[str], str | None]) -> str | None:
    """Push what `make` gives for the branch's head, "" where there is none; again when it moved.

    Returns the commit that the branch then holds; None when `make` gave none. Without a remote the
    branch is one of this clone. Raises GitError when the push is not allowed.
    """
    for left in reversed(range(ATTEMPTS)):
        before = head(root, branch)
        made = make(before)
        if made is None or made == before:
            return made
        try:
            if remote(root):
                push(root, made, branch, before)
            else:
                git(root, "update-ref", f"refs/heads/{branch}", made, before or "0" * len(made))
            return made
        except GitError:
            # When the branch has moved meanwhile, look again; when not, the push is not allowed.
            if not left or head(root, branch) == before:
                raise
    raise AssertionError("unreachable")
