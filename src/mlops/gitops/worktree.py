"""A second working tree of this repository, for what must not touch the first one."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mlops.base import processes
from mlops.base.errors import UserError
from mlops.base.files import alone
from mlops.contract import params
from mlops.data.params import Params
from mlops.forge import git
from mlops.pipeline import tracking_server

MLOPS = ("-m", "mlops")


@dataclass(frozen=True)
class Worktree:
    """The project of `root` at `path`, on `commit`; its commands inherit the open file `lock`."""

    root: Path
    path: Path
    commit: str
    lock: int

    def python(self, name: str, *arguments: str, shown: bool = False) -> str:
        """Run Python on the tree's own code; what it printed, unless that is `shown` here.

        Raises CommandFailed, which ends this process with the command's exit code.
        """
        path = os.pathsep.join([str(self.path / "src"), os.environ.get("PYTHONPATH", "")])
        env = {**os.environ, "PYTHONPATH": path.rstrip(os.pathsep)}
        if tracking_server.is_named():
            # A relative one is relative to this folder.
            env[tracking_server.VARIABLE] = tracking_server.uri(self.root)
        # While it runs, nobody else may use the tree, even when this process is killed.
        try:
            return processes.run(
                [sys.executable, *arguments], name, cwd=self.path, capture_output=not shown,
                env=env, pass_fds=(self.lock,),
            ).strip()  # fmt: skip
        except processes.CommandFailed as failed:
            failed.exit_code = failed.code if failed.code > 0 else 128 - failed.code
            raise


@contextmanager
def worktree(root: Path, name: str) -> Iterator[Worktree]:
    """A tree at main's tip, with this repository's DVC cache, remotes and tracking store.

    Of two that ask for one name, one waits for the other, and for what a killed one left running.
    Files from an earlier time stay in the tree, unless Git tracks them. Raises UserError for a
    folder that is no DVC repository.
    """
    folder = root.resolve() / ".run" / name
    folder.mkdir(parents=True, exist_ok=True)
    with alone(folder) as lock:
        # Main may have moved while another was waited for.
        tree, commit = folder / "tree", git.tip(root)
        try:
            # In a folder without its own `.git`, Git would change the repository around it.
            if not (tree / ".git").is_file():
                raise git.GitError(f"{tree}: no working tree")
            git.git(tree, "checkout", "--quiet", "--force", "--detach", commit)
        except git.GitError:
            shutil.rmtree(tree, ignore_errors=True)
            git.git(root, "worktree", "prune")
            git.git(root, "worktree", "add", "--quiet", "--force", "--detach", str(tree), commit)
        project = tree / git.prefix(root)
        _share(root.resolve(), project)
        yield Worktree(root, project, commit, lock)


def _share(root: Path, tree: Path) -> None:
    """Let DVC, MLflow and the source use in the tree what they use here."""
    from dvc.exceptions import NotDvcRepoError
    from dvc.repo import Repo

    try:
        here, there = Repo(str(root)), Repo(str(tree))
        with here, there, there.config.edit("local") as config:
            config.clear()
            config.update(here.config.load_one("local"))
            config["cache"]["dir"] = here.cache.local_cache_dir
    except NotDvcRepoError as error:
        raise UserError(f"{root}: not a DVC repository: {error}") from None
    (root / tracking_server.EMBEDDED).mkdir(exist_ok=True)
    # A location in this folder, which Git may ignore.
    for name in (tracking_server.EMBEDDED, params.load(Params, tree).data.location):
        link = tree / name
        if (root / name).exists() and not os.path.lexists(link):
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(root / name)
