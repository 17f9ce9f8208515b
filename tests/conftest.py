"""Small workspaces in which the real stages run, of three projects that lie in `projects/`."""

from __future__ import annotations

import fcntl
import importlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import chdir, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import settings

from mlops.contract.paths import WRITERS
from mlops.contract.stages import MODULES
from tests.settings import change

REPOSITORY = Path(__file__).parents[1]
PROJECTS = Path(__file__).parent / "projects"
STAGES = tuple(MODULES)
# Where each stage writes, below the root.
OUTPUTS = {stage: str(path) for path, stage in WRITERS.items()}

# What a project changes in the tests' own params.yaml.
ALL_FAMILIES = ["lightgbm", "xgboost", "hist_gradient_boosting", "linear"]
TWO_FOLDS = {"split.holdout_days": 30, "split.folds": 2, "tune.families": ALL_FAMILIES}
OF_PROJECT: dict[str, dict[str, Any]] = {
    "trips": {},
    "shops": {**TWO_FOLDS, "data.until": "2024-04-30"},
    "diabetes": {**TWO_FOLDS, "data.until": "2020-05-27", "split.validation_days": 20},
    "wine": {**TWO_FOLDS, "data.until": "2021-05-28", "split.validation_days": 14},
}
FIXTURES = Path(__file__).parent / "fixtures"
# Folders and files of tests that take minutes.
LONG = ("rehearsal", "images", "stack", "test_retrain", "test_kills")

sys.path.insert(0, str(PROJECTS))
# How long an example takes says how busy the machine is.
settings.register_profile("tests", deadline=None)
settings.load_profile("tests")
# A shell's background jobs ignore Ctrl-C, and so would every process that the tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)
# As `mlops.training.families` does, but before a test can import scikit-learn.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ["SPARK_CONF_DIR"] = str(Path(__file__).parent / "spark")


@dataclass(frozen=True)
class Done:
    """How a command ended: its exit code and what it printed."""

    code: int
    out: str
    err: str


@dataclass(frozen=True)
class Workspace:
    """A repository in a folder of its own: data, parameters, the real code."""

    root: Path
    store: Path

    def change(self, changes: dict[str, Any]) -> Workspace:
        """Set keys of params.yaml, by their dotted names."""
        change(self.root, changes)
        return self

    def params(self) -> Any:
        from mlops.contract import params

        return params.load_all(self.root)

    def run(self, *stages: str) -> Any:
        """Run stages in this process; the last one's result."""
        result = None
        with chdir(self.root):
            for name in stages:
                result = importlib.import_module(MODULES[name]).run(self.params(), Path())
        return result

    def start(self, stage: str, **environment: str) -> subprocess.Popen[str]:
        """The real command of a stage, running."""
        return subprocess.Popen(
            [sys.executable, "-m", MODULES[stage]],
            cwd=self.root,
            env={**os.environ, "PYTHONPATH": str(self.root / "src"), **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def command(self, stage: str, **environment: str) -> Done:
        """The real command of a stage, ended."""
        process = self.start(stage, **environment)
        out, err = process.communicate(timeout=1500)
        return Done(process.returncode, out, err)

    def digest(self, place: str) -> str:
        from mlops.base.files import folder_digest

        assert (self.root / place).is_dir()
        return folder_digest(self.root / place)

    def tables(self) -> Path:
        return self.root / "csv"

    def edit_table(self, name: str, edit: Callable[[pd.DataFrame], pd.DataFrame]) -> Workspace:
        """Rewrite one raw table."""
        path = self.tables() / f"{name}.csv"
        rows = pd.read_csv(path, na_values=["NA", ""], keep_default_na=False)
        edit(rows).to_csv(path, index=False)
        return self

    def copy(self, root: Path) -> Workspace:
        """The same files elsewhere, with an empty tracking store."""
        shutil.copytree(self.root, root, symlinks=True, dirs_exist_ok=True)
        shutil.rmtree(root / "mlruns")
        shutil.copytree(self.store, root / "mlruns")
        return Workspace(root, self.store)


@dataclass
class Shared:
    """Folders that are made once for all tests, whichever worker asks first."""

    base: Path
    made: set[str] = field(default_factory=set)

    def folder(self, name: str, make: Callable[[Path], None]) -> Path:
        path = self.base / name
        with self._alone(name):
            if not (self.base / f"{name}.made").exists():
                make(path)
                (self.base / f"{name}.made").touch()
        return path

    @contextmanager
    def held(
        self, name: str, make: Callable[[Path], None], drop: Callable[[Path], None]
    ) -> Iterator[Path]:
        """A folder of something that runs: begun by the first who needs it, ended by the last."""
        path, users = self.base / name, self.base / f"{name}.users"
        with self._alone(name):
            before = int(users.read_text()) if users.exists() else 0
            if not before:
                make(path)
            users.write_text(str(before + 1))
        try:
            yield path
        finally:
            with self._alone(name):
                left = int(users.read_text()) - 1
                users.write_text(str(left))
                if not left:
                    drop(path)

    @contextmanager
    def _alone(self, name: str) -> Iterator[None]:
        with (self.base / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What begins with a trained repository is slow: a registration or a training comes first.

    Files that take minutes begin, so that no worker is left with one at the end.
    """
    for item in items:
        if {"finished", "trained"} & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.slow)
    items.sort(key=lambda item: not set(LONG) & {*item.path.parts, item.path.stem})


@pytest.fixture(autouse=True, scope="session")
def no_server() -> None:
    """Tests track in their own folder, whatever server this machine names."""
    # What a forge's own machine says of itself, too: what runs there ends with the job.
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI", "MLFLOW_EXPERIMENT_NAME",
                 "SPARK_REMOTE", "RUNNER_ENVIRONMENT", "AGENT_ISSELFHOSTED"):  # fmt: skip
        os.environ.pop(name, None)


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Shared:
    base = tmp_path_factory.getbasetemp()
    base = base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base
    base = base / "shared"
    base.mkdir(exist_ok=True)
    return Shared(base)


@pytest.fixture(scope="session")
def store(shared: Shared) -> Path:
    """An empty MLflow store: its migrations take seconds, a copy of it none."""

    def make(folder: Path) -> None:
        from mlflow import MlflowClient

        folder.mkdir()
        MlflowClient(f"sqlite:///{folder / 'mlflow.db'}").get_experiment("0")

    return shared.folder("store", make)


def make_repository(
    project: str,
    root: Path,
    package: Path | None = None,
    tables: Mapping[str, pd.DataFrame] | None = None,
) -> Workspace:
    """A repository of a project's code and raw tables (`csv/`); nothing has run or is tracked.

    `package` and `tables` are those of `projects/` unless given.
    """
    (root / "src").mkdir(parents=True)
    (root / "src" / project).symlink_to(package or PROJECTS / project)
    (root / "src" / "mlops").symlink_to(REPOSITORY / "src" / "mlops")
    (root / "requirements.lock").symlink_to(REPOSITORY / "requirements.lock")
    for name in ("dvc.yaml", "params.yaml"):
        shutil.copy(PROJECTS / name, root)
    # The code's folders are shared: what another test compiles there is no change of the code.
    shutil.copy(REPOSITORY / ".dvcignore", root)
    (root / "csv").mkdir()
    tables = tables or importlib.import_module(f"{project}.tables").csv()
    for name, rows in tables.items():
        rows.to_csv(root / "csv" / f"{name}.csv", index=False)
    return Workspace(root, root.parent / "store").change(
        {"project": project, "model": f"{project}-model", **OF_PROJECT.get(project, {})}
    )


@pytest.fixture(scope="session")
def repository(shared: Shared) -> Callable[[str, Path], Workspace]:
    """Make a workspace for a project, its raw tables in `csv/`, nothing run or tracked yet."""
    return lambda project, root: replace(
        make_repository(project, root), store=shared.base / "store"
    )


@pytest.fixture(scope="session")
def tracked(repository: Any, store: Path) -> Callable[[str, Path], Workspace]:
    """Make a workspace with a tracking store."""

    def make(project: str, root: Path) -> Workspace:
        workspace: Workspace = repository(project, root)
        shutil.copytree(store, root / "mlruns")
        return workspace

    return make


@pytest.fixture(scope="session")
def finished(shared: Shared, tracked: Any, store: Path) -> Callable[[str], Workspace]:
    """A project's workspace as all six stages leave it; to read from, not to write in.

    Nothing is trained: features, models and reports are those in `tests/fixtures`.
    """

    def make(project: str, root: Path) -> None:
        workspace = tracked(project, root)
        shutil.copytree(FIXTURES / project, root, dirs_exist_ok=True)
        workspace.run("ingest", "register")

    return lambda project: Workspace(
        shared.folder(f"finished-{project}", lambda root: make(project, root)), store
    )


@pytest.fixture(scope="session")
def trained(shared: Shared, tracked: Any, store: Path) -> Callable[[str], Workspace]:
    """The same after a real training with the code as it is now; takes half a minute."""

    def make(project: str, root: Path) -> None:
        tracked(project, root).run(*STAGES)

    return lambda project: Workspace(
        shared.folder(f"trained-{project}", lambda root: make(project, root)), store
    )


@pytest.fixture
def dvc_repository(tmp_path: Path) -> Iterator[Callable[[str], Any]]:
    """Make an empty DVC repository whose default remote, `store`, is at a URL."""
    from dvc.repo import Repo

    repo = Repo.init(str(tmp_path / "repository"), no_scm=True)

    def make(url: str) -> Repo:
        with repo.config.edit() as config:
            config["remote"] = {"store": {"url": url}}
            config["core"]["remote"] = "store"
        return repo

    yield make
    repo.close()


@pytest.fixture
def command(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[[Workspace, str], Done]:
    """Run a stage as its command does, in this process: its exit code, what it printed."""
    from mlops.pipeline import stage

    def run(workspace: Workspace, name: str) -> Done:
        monkeypatch.chdir(workspace.root)
        module = importlib.import_module(MODULES[name])
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            stage.main(name, module.run, module.Params)
        said = capfd.readouterr()
        assert isinstance(ended.value.code, int)
        return Done(ended.value.code, said.out, said.err)

    return run


@pytest.fixture
def small_disk() -> Iterator[Callable[[Path], None]]:
    """Make a folder, with what is in it, a disk of its own that is full."""
    mounted: list[Path] = []

    def make(folder: Path) -> None:
        kept = shutil.copytree(folder, f"{folder}-kept", symlinks=True)
        if os.geteuid() or os.system(f"mount -t tmpfs -o size=24m tmpfs {folder} 2>/dev/null"):
            pytest.skip("only root may mount a disk")
        mounted.append(folder)
        shutil.copytree(kept, folder, symlinks=True, dirs_exist_ok=True)
        with suppress(OSError), (folder / "ballast").open("wb", buffering=0) as ballast:
            while True:
                ballast.write(b"0" * 4096)

    yield make
    for folder in mounted:
        os.system(f"umount --lazy {folder}")
