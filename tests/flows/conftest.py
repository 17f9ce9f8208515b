"""Repositories in folders of their own; the real flow runs in them on a real Prefect server."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest

from mlops.contract.paths import LOG
from mlops.contract.stages import MODULES
from tests import locks
from tests.conftest import OUTPUTS, PROJECTS, REPOSITORY, Done

PARTS = (
    ".dvc/.gitignore", ".dvcignore", ".gitignore", "flows", "prefect.toml", "requirements.lock",
    "src/mlops",
)  # fmt: skip
PROJECT = "trips"
# Enough to find a model; the flow has to be quick here, not good.
FEW = {"tune.families": ["lightgbm"], "tune.max_evals": 2, "split.folds": 1}
BIN = Path(sys.executable).parent
FLOW = (sys.executable, "-m", "flows", "training")


@dataclass(frozen=True)
class Checkout:
    """A clone of this repository with little data, and the environment of its commands."""

    workspace: Any
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def root(self) -> Path:
        return Path(self.workspace.root)

    def start(self, *command: str | Path, **environment: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [str(part) for part in command],
            cwd=self.root,
            env={
                **{name: value for name, value in os.environ.items() if "PREFECT" not in name},
                # DVC runs stages with it; bash alone steps aside for the last command.
                "SHELL": "/bin/sh",
                "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
                "PYTHONPATH": str(self.root / "src"),
                "DVC_SITE_CACHE_DIR": str(self.root.parent / "dvc"),
                **self.environment,
                **environment,
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, *command: str | Path, **environment: str) -> Done:
        return ended(self.start(*command, **environment))

    def flow(self, **environment: str) -> Done:
        return self.run(*FLOW, **environment)

    def trial(self) -> Done:
        """The flow up to the evidence."""
        call = "from flows.training import training; print(training(register_model=False))"
        return self.run(sys.executable, "-c", call)

    def executed(self) -> list[str]:
        """The stages that really ran here, in order."""
        path = self.root / LOG
        lines = path.read_text().splitlines() if path.exists() else []
        return [json.loads(line)["stage"] for line in lines]

    def outputs(self) -> dict[str, str]:
        return {stage: self.workspace.digest(place) for stage, place in OUTPUTS.items()}

    def leftovers(self) -> list[str]:
        return [str(path) for path in self.root.glob("**/.*.part-*")]

    def touch_code(self, name: str) -> Checkout:
        """Make stale what is made with a file of code, and change nothing that it says."""
        with (self.root / "src" / name).open("a") as file:
            file.write("\n# Another comment.\n")
        return self

    def copy(self, root: Path, **environment: str) -> Checkout:
        """The same repository elsewhere, with an empty tracking store and no servers."""
        shutil.copytree(
            self.root,
            root,
            ignore=shutil.ignore_patterns(".run", ".prefect", "mlruns", "logs", "__pycache__"),
        )
        shutil.copytree(self.workspace.store, root / "mlruns")
        return Checkout(type(self.workspace)(root, self.workspace.store), environment)


def ended(process: subprocess.Popen[str]) -> Done:
    out, err = process.communicate(timeout=1500)
    return Done(process.returncode, out, err)


@dataclass(frozen=True)
class Held:
    """A flow whose stage has computed all, and waits to write because another holds its folder."""

    flow: subprocess.Popen[str]
    stage: psutil.Process

    def end(self) -> Done:
        return ended(self.flow)

    def stage_is_gone(self, seconds: float = 120) -> bool:
        return not psutil.wait_procs([self.stage], timeout=seconds)[1]


@contextmanager
def _held(checkout: Checkout, stage: str) -> Iterator[Held]:
    flow = checkout.start(*FLOW)

    def running() -> psutil.Process | None:
        with suppress(psutil.NoSuchProcess):
            below = psutil.Process(flow.pid).children(recursive=True)
            return next((p for p in below if p.cmdline()[-1:] == [MODULES[stage]]), None)
        return None

    try:
        process = locks.wait_until(running, flow)
        # Not before: an earlier stage may write to the same folder.
        with locks.held((checkout.root / OUTPUTS[stage]).parent):
            locks.wait_until(lambda: locks.waits(process.pid), flow)
            yield Held(flow, process)
    finally:
        if flow.poll() is None:
            os.killpg(flow.pid, signal.SIGKILL)


@pytest.fixture(scope="session")
def held() -> Any:
    return _held


@pytest.fixture(scope="session")
def checkout(tracked: Any) -> Callable[[Path], Checkout]:
    """Make a repository of its own, committed, in which nothing has run yet."""

    def make(root: Path) -> Checkout:
        workspace = tracked(PROJECT, root).change(FEW)
        for name in PARTS:
            _copy(REPOSITORY / name, root / name)
        _copy(PROJECTS / PROJECT, root / "src" / PROJECT)
        (root / ".dvc/config").write_text("[core]\n    analytics = false\n")
        made = Checkout(workspace)
        for command in (
            ("init", "-q"), ("config", "user.name", "A Tester"), ("config", "user.email", "a@b.cd"),
            ("add", "."), ("commit", "-qm", "A start"),
        ):  # fmt: skip
            assert made.run("git", *command).code == 0
        return made

    return make


def _copy(source: Path, target: Path) -> None:
    if target.is_symlink() or target.is_file():
        target.unlink()
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        shutil.copy(source, target)


@dataclass(frozen=True)
class Served:
    """A repository whose servers run, after its first flow from empty caches."""

    checkout: Checkout
    up: Done
    urls: dict[str, str]
    first: Done

    @property
    def environment(self) -> dict[str, str]:
        """What points a flow elsewhere at these servers."""
        return {
            "PREFECT_API_URL": f"{self.urls['prefect']}/api",
            "MLFLOW_TRACKING_URI": self.urls["mlflow"],
        }


@pytest.fixture(scope="session")
def served(
    checkout: Callable[[Path], Checkout], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    made = checkout(tmp_path_factory.mktemp("served") / "it's a [clone] é")
    up = made.run(BIN / "mlops", "up")
    try:
        assert up.code == 0, up.err
        urls = dict(line.split() for line in up.out.splitlines()[:2])
        yield Served(made, up, urls, made.flow())
    finally:
        made.run(BIN / "mlops", "down")


@pytest.fixture
def trained(served: Served, tmp_path: Path) -> Checkout:
    """A repository of its own, its cache filled by the first flow; the servers are shared."""
    assert served.first.code == 0, served.first.err
    return served.checkout.copy(tmp_path / "repository", **served.environment)
