"""A second working tree of this repository, for what must not touch the first one."""

from __future__ import annotations

import fcntl
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mlops.base import processes
from mlops.base.errors import UserError
from mlops.base.processes import CommandFailed
from mlops.forge import git
from mlops.pipeline import tracking

MLOPS = ("-c", "from mlops.cli import main; main()")


class Ended(UserError):
    """A command in the tree did not end well; ends this one with the same exit code."""

    def __init__(self, reason: str, exit_code: int) -> None:
        super().__init__(reason)
        self.exit_code = exit_code


@dataclass(frozen=True)
class Worktree:
    """A tree at `path`, on `commit`; its commands hold the file `lock` open while they run."""

    path: Path
    commit: str
    lock: int

    def watched(self, what: str, *words: str) -> None:
        """Run Python on the tree's own code, its output on this screen; raises Ended."""
        self._run(what, words, capture_output=False)

    def said(self, what: str, *words: str) -> str:
        """What Python printed, run on the tree's own code; raises Ended with its last line."""
        return self._run(what, words, capture_output=True).strip()

    def _run(self, what: str, words: Sequence[str], capture_output: bool) -> str:
        path = os.pathsep.join([str(self.path / "src"), os.environ.get("PYTHONPATH", "")])
        env = {**os.environ, "PYTHONPATH": path.rstrip(os.pathsep)}
        try:
            return processes.run(
                [sys.executable, *words], what, cwd=self.path, env=env,
                capture_output=capture_output, pass_fds=(self.lock,),
            )  # fmt: skip
        except CommandFailed as error:
            raise Ended(str(error), error.code if error.code > 0 else 128 - error.code) from None


@contextmanager
def worktree(root: Path, name: str) -> Iterator[Worktree]:
    """A tree at main's tip, with this repository's DVC cache, remotes and tracking store.

    Of two that ask for one name, one waits for the other, and for what a killed one left running.
    What lies in the tree from an earlier time stays there, unless Git tracks it. Raises UserError
    for a folder that is no DVC repository.
    """
    folder = root.resolve() / ".run" / name
    folder.mkdir(parents=True, exist_ok=True)
    place = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(place, fcntl.LOCK_EX)
        # Main may have moved while another was waited for.
        tree, commit = folder / "tree", git.tip(root)
        _check_out(root, tree, commit)
        _share(root, tree)
        yield Worktree(tree, commit, place)
    finally:
        os.close(place)


def _check_out(root: Path, tree: Path, commit: str) -> None:
    """Let the tree be at the commit; one that is not whole is made anew."""
    try:
        # Where it is none, Git would take the one around it for it.
        if not (tree / ".git").is_file():
            raise git.GitError(f"{tree}: no working tree")
        git.git(tree, "checkout", "--quiet", "--force", "--detach", commit)
    except git.GitError:
        shutil.rmtree(tree, ignore_errors=True)
        git.git(root, "worktree", "prune")
        git.git(root, "worktree", "add", "--quiet", "--force", "--detach", str(tree), commit)


def _share(root: Path, tree: Path) -> None:
    """Let DVC and MLflow find in the tree what they find here."""
    from dvc.exceptions import NotDvcRepoError
    from dvc.repo import Repo

    try:
        with (
            Repo(str(root)) as ours,
            Repo(str(tree)) as its,
            its.config.edit("local") as config,
        ):
            config.clear()
            config.update(ours.config.load_one("local"))
            config["cache"]["dir"] = ours.cache.local_cache_dir
    except NotDvcRepoError as error:
        raise UserError(f"{root.resolve()}: not a DVC repository: {error}") from None
    store = root.resolve() / tracking.EMBEDDED
    store.mkdir(exist_ok=True)
    if not (tree / tracking.EMBEDDED).exists():
        (tree / tracking.EMBEDDED).symlink_to(store)
