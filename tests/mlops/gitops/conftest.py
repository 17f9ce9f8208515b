"""A trained repository with a remote of its own: real Git, real DVC cache, real registry."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import chdir
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.mlops.deploy.processes import stop

REPOSITORY = Path(__file__).parents[3]
ROLLOUT = re.compile(r"^rollout:.*(?=^pin:)", re.MULTILINE | re.DOTALL)
WHO = {"user.name": "A Tester", "user.email": "a@b.cd", "init.defaultBranch": "main"}


@dataclass(frozen=True)
class Clone:
    """A working copy of the example after a training, and the bare repository behind it."""

    workspace: Any
    remote: Path

    @property
    def root(self) -> Path:
        return Path(self.workspace.root)

    def params(self) -> Any:
        return self.workspace.params()

    def git(self, *arguments: str) -> str:
        done = subprocess.run(
            ["git", *arguments], cwd=self.root, capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    def python(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=self.root,
            env={**os.environ, "PYTHONPATH": str(self.root / "src")},
            capture_output=True,
            text=True,
            check=False,
        )

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """An `mlops` verb, in a process of its own."""
        return self.python("-c", "from mlops.cli import main; main()", *arguments)

    def commit(self, message: str) -> str:
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message", message)
        self.git("push", "--quiet", "origin", "HEAD:main")
        return self.git("rev-parse", "HEAD")

    def tidy(self) -> Clone:
        """Let dvc.lock speak of what lies here, as a flow does."""
        from dvc.repo import Repo

        with chdir(self.root):
            Repo(".").commit(force=True, allow_missing=True)
        return self

    def retrain(self, **changes: Any) -> Clone:
        """Another bundle in the workspace, made with other parameters, registered and committed."""
        self.workspace.change({name.replace("__", "."): value for name, value in changes.items()})
        self.workspace.run("tune", "train", "evaluate", "register")
        self.tidy()
        self.commit("Train anew")
        return self

    def judge(self, base: str = "HEAD") -> Any:
        from mlops.gitops import gate

        with chdir(self.root):
            verdict = gate.judge(self.params(), Path(), base)
            verdict.save(Path())
        return verdict

    def judged_pin(self) -> Any:
        """The pin of the bundle in the workspace, after the gate."""
        from mlops.gitops import pin

        self.judge()
        with chdir(self.root):
            return pin.of_workspace(Path())

    def pin(self, environment: str, pin: Any) -> str:
        """Pin by hand what a merged pull request would have pinned."""
        from mlops.deploy import manifest

        file = self.root / manifest.path(environment)
        file.write_text(manifest.with_pin(file.read_text(), pin))
        return self.commit(f"{environment} pins {pin.digest[:12] if pin else 'nothing'}")

    def pin_what_no_store_has(self, environment: str, pin: Any) -> None:
        dvc = pin.dvc.model_copy(update={"bundle": "1" * 32 + ".dir"})
        self.pin(environment, pin.model_copy(update={"digest": "1" * 64, "dvc": dvc}))

    def merge(self, branch: str) -> str:
        """What a click on the pull request does: squash, delete the branch, be up to date here."""
        self.git("fetch", "--quiet", "origin", branch)
        self.git("merge", "--quiet", "--squash", "FETCH_HEAD")
        commit = self.commit(f"Merge {branch}")
        self.git("push", "--quiet", "origin", "--delete", branch)
        return commit

    def copy(self, root: Path) -> Clone:
        remote = root.parent / f"{root.name}.git"
        shutil.copytree(self.remote, remote)
        copied = Clone(self.workspace.copy(root), remote)
        # The copy of the store is empty: this clone's registry comes along.
        shutil.rmtree(root / "mlruns")
        shutil.copytree(self.root / "mlruns", root / "mlruns")
        copied.git("remote", "set-url", "origin", str(remote))
        return copied


@pytest.fixture(scope="session")
def clones(finished: Any, shared: Any, store: Path) -> Callable[[str], Clone]:
    """A project's trained and committed repository; to copy, not to write in."""

    def make(project: str, folder: Path) -> None:
        folder.mkdir()
        workspace = finished(project).copy(folder / "repository")
        root = workspace.root
        shutil.rmtree(root / "mlruns")
        shutil.copytree(store, root / "mlruns")
        for name in (".gitignore", ".dvcignore", "environments"):
            source = REPOSITORY / name
            (shutil.copytree if source.is_dir() else shutil.copy)(source, root / name)
        for file in (root / "environments").glob("*.yaml"):
            # Retrained models shall neither wait nor be undone by chance.
            file.write_text(re.sub(ROLLOUT, "rollout:\n  steps: []\n", file.read_text()))
        subprocess.run(
            ["git", "init", "-q", "--bare", "-b", "main", folder / "remote.git"], check=True
        )
        clone = Clone(workspace, folder / "remote.git")
        clone.git("init", "--quiet", "--initial-branch=main")
        for name, value in WHO.items():
            clone.git("config", name, value)
        clone.git("remote", "add", "origin", str(clone.remote))
        _dvc(root)
        workspace.run("register")
        clone.tidy()
        (root / ".gitignore").open("a").write("/csv/\n")
        clone.commit("A start")

    return lambda project: Clone(
        type(finished(project))(
            shared.folder(f"clone-{project}", lambda f: make(project, f)) / "repository", store
        ),
        shared.folder(f"clone-{project}", lambda f: make(project, f)) / "remote.git",
    )


def _dvc(root: Path) -> None:
    from dvc.repo import Repo

    with chdir(root):
        Repo.init(".").close()


@pytest.fixture
def clone(clones: Callable[[str], Clone], tmp_path: Path) -> Iterator[Clone]:
    """The wine project's clone, which is small and has three classes; nothing serves after it."""
    made = clones("wine").copy(tmp_path / "repository")
    yield made
    stop(made.root)


class Forge:
    """Notes what it was asked; test_forge.py proves the real ones."""

    def __init__(self) -> None:
        self.opened: list[tuple[str, str, str, str]] = []
        self.states: list[tuple[str, str, str, str]] = []

    def pull_request(self, branch: str, base: str, title: str, body: str) -> str:
        self.opened.append((branch, base, title, body))
        return f"forge/{branch}"

    def status(self, commit: str, state: str, context: str, text: str) -> None:
        self.states.append((commit, state, context, text))

    def comment(self, pull_request: int, body: str, key: str) -> str:
        raise NotImplementedError

    def number(self, head: str | None) -> int | None:
        return None


@pytest.fixture
def forge() -> Forge:
    return Forge()
