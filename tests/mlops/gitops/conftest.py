"""A released repository with a remote of its own: real Git, real DVC cache, real registry."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import chdir
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.mlops.deploy.processes import stop

WHO = {"user.name": "A Tester", "user.email": "a@b.cd", "init.defaultBranch": "main"}
COMMAND = (sys.executable, "-c", "from mlops.cli import main; main()")
# A bundle that takes over shall neither wait nor be undone by chance.
MANIFEST = "target: local\nendpoint: trips\nrollout:\n  steps: []\npin: null\n"
IGNORED = "/csv/\n/data/\n/logs/\n/mlruns/\n/models/\n/reports/\n/verdict/\n/.run/\n__pycache__/\n"


@dataclass(frozen=True)
class Clone:
    """A working copy with a bundle, and the bare repository behind it."""

    workspace: Any
    remote: Path

    @property
    def root(self) -> Path:
        return Path(self.workspace.root)

    def params(self) -> Any:
        return self.workspace.params()

    def git(self, *arguments: str) -> str:
        done = subprocess.run(
            ["git", *arguments], cwd=self.root, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def start(self, *arguments: str, **env: str) -> subprocess.Popen[str]:
        """An `mlops` verb, in a process of its own."""
        return subprocess.Popen(
            [*COMMAND, *arguments], cwd=self.root, text=True, start_new_session=True,
            env={**os.environ, "PYTHONPATH": str(self.root / "src"), **env},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def command(self, *arguments: str, **env: str) -> tuple[int, str, str]:
        """The same, ended: exit code, what it printed, errors."""
        process = self.start(*arguments, **env)
        out, err = process.communicate(timeout=300)
        return process.returncode, out, err

    def commit(self, message: str) -> str:
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message", message)
        self.git("push", "--quiet", "origin", "HEAD:main")
        return self.git("rev-parse", "HEAD")

    def lock(self) -> Clone:
        """Write what lies here into dvc.lock, as a flow does."""
        from dvc.repo import Repo

        with chdir(self.root):
            Repo(".").commit(force=True, allow_missing=True)
        return self

    def challenge(self) -> Clone:
        """Another bundle in the workspace, with the parameters that made it; registered before."""
        from dvc.repo import Repo

        self.git("checkout", "--quiet", "challenger", "--", "params.yaml", "dvc.lock")
        with chdir(self.root):
            Repo(".").checkout(force=True)
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
        from mlops.gitops import workspace_pin

        verdict = self.judge()
        assert verdict.accepted, verdict.line
        with chdir(self.root):
            return workspace_pin.of_workspace(Path())

    def pin(self, environment: str, pin: Any, **changes: Any) -> str:
        """Pin by hand what a merged pull request would have pinned."""
        from mlops.deploy import manifest

        file = self.root / manifest.path(environment)
        changed = pin.model_copy(update=changes) if pin else None
        file.write_text(manifest.with_pin(file.read_text(), changed))
        return self.commit(f"{environment} pins {changed.digest[:12] if changed else 'nothing'}")

    def pin_what_no_store_has(self, environment: str, pin: Any) -> None:
        dvc = pin.dvc.model_copy(update={"bundle": "1" * 32 + ".dir"})
        self.pin(environment, pin, digest="1" * 64, dvc=dvc)

    def pin_with_card(self, pin: Any, environment: str = "production", **changes: Any) -> Any:
        """Pin a bundle that differs from `pin` in what its card says; where it lies."""
        from mlops.base.files import folder_digest
        from mlops.contract import bundle
        from mlops.registry import store

        folder = self.root / store.STORE / "made"
        shutil.copytree(self.root / "models/bundle", folder / "models/bundle")
        shutil.copytree(self.root / "reports", folder / "reports")
        card = json.loads((folder / "models/bundle/bundle.json").read_text())
        del card["files"]
        (folder / "models/bundle/bundle.json").unlink()
        bundle.write_card(folder / "models/bundle", {**card, **changes})
        digest = folder_digest(folder / "models/bundle")
        folder.rename(folder.with_name(digest))
        self.pin(environment, pin, digest=digest)
        return folder.with_name(digest)

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


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What copies a whole repository is slow."""
    for item in items:
        if "clone" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def original(finished: Any, shared: Any) -> Clone:
    """A committed repository with a bundle, another one on the branch `challenger`; to copy."""

    def make(folder: Path) -> None:
        workspace = finished("trips").copy(folder / "repository")
        shutil.rmtree(workspace.root / "mlruns")
        shutil.copytree(finished("trips").root / "mlruns", workspace.root / "mlruns")
        _make_challenger(committed(workspace, folder / "remote.git"))

    folder = shared.folder("original", make)
    workspace = finished("trips")
    return Clone(type(workspace)(folder / "repository", workspace.store), folder / "remote.git")


def committed(workspace: Any, remote: Path, manifest: str = MANIFEST) -> Clone:
    """A trained workspace as a Git and DVC repository with a remote, committed and pushed."""
    from dvc.repo import Repo

    clone, root = Clone(workspace, remote), workspace.root
    (root / "environments").mkdir()
    for name in ("staging", "production"):
        (root / "environments" / f"{name}.yaml").write_text(manifest)
    (root / ".gitignore").write_text(IGNORED)
    subprocess.run(["git", "init", "-q", "--bare", "-b", "main", remote], check=True)
    clone.git("init", "--quiet", "--initial-branch=main")
    for name, value in WHO.items():
        clone.git("config", name, value)
    clone.git("remote", "add", "origin", str(remote))
    with chdir(root):
        Repo.init(".").close()
    clone.lock().commit("A start")
    return clone


def _make_challenger(clone: Clone) -> None:
    """The linear family instead of the trees: no search, one small fit."""
    from dvc.repo import Repo

    clone.git("switch", "--quiet", "--create", "challenger")
    winner = clone.root / "models/search/result.json"
    content = json.loads(winner.read_text())
    content |= {"family": "linear", "hyperparameters": {"max_iter": 300, "C": 0.5}}
    winner.write_text(json.dumps(content))
    clone.workspace.change({"seed": 3, "tune.families": ["linear"]})
    clone.workspace.run("train", "evaluate", "register")
    clone.lock()
    clone.git("commit", "--quiet", "--all", "--message", "Another family")
    clone.git("switch", "--quiet", "main")
    with chdir(clone.root):
        Repo(".").checkout(force=True)


@pytest.fixture
def clone(original: Clone, tmp_path: Path) -> Iterator[Clone]:
    """A copy to write in; nothing serves after it."""
    made = original.copy(tmp_path / "repository")
    yield made
    stop(made.root)


class Forge:
    """Notes its calls; test_forge.py proves the real ones."""

    def __init__(self) -> None:
        self.opened: list[tuple[str, str, str, str]] = []
        self.states: list[tuple[str, str, str]] = []

    def pull_request(self, branch: str, base: str, title: str, body: str) -> str:
        self.opened.append((branch, base, title, body))
        return f"forge/{branch}"

    def status(self, commit: str, state: str, context: str, text: str) -> None:
        self.states.append((commit, state, context))


@pytest.fixture
def forge() -> Forge:
    return Forge()
