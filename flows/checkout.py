"""Check out a revision, with the environment of its own lock, for a scheduled run.

The worker has the interpreter and libraries of another revision. The run's own are prepared in the
current folder, and replace the process:

    revisions/COMMIT      a clone for each revision
    environments/LOCK     an environment for each lock, made once

State that all revisions share (DVC's cache, local deployments) stays in the repository that has
the folder, or in the folder itself where there is none.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import sys
from contextlib import suppress
from pathlib import Path
from typing import NoReturn
from uuid import UUID

from mlops.base import processes
from mlops.base.errors import UserError
from mlops.base.files import alone, whole_folder
from mlops.forge import git

REVISIONS, ENVIRONMENTS = Path("revisions"), Path("environments")
LOCKS = ("requirements.lock", "pyproject.toml")
KEPT = (
    ".dvc/cache", ".run/local", ".run/serving", ".run/bundles", ".run/scored", ".run/predictions",
    ".run/features", ".run/outcomes", "mlruns",
)  # fmt: skip
# Tables that Git does not have; linked where the repository has some.
RAW = "raw"
# Set in a process that runs a revision: the folder of its clone.
ENTERED = "MLOPS_CHECKOUT"


def here() -> dict[str, str]:
    """The commit that is checked out, from where everybody gets it, and the project's folder."""
    root = Path()
    return {
        "repository": git.address(root),
        "revision": git.commit(root, "HEAD"),
        "folder": git.prefix(root),
    }


def enter(repository: str, revision: str, folder: str = "") -> dict[str, str]:
    """Continue with the code of `repository` at the commit `revision`; gives its `directory`.

    The process is replaced by one with the revision's code and environment, where this returns.
    Without the revision or its environment the run fails with the reason.
    """
    if Path(os.environ.get(ENTERED, "")).name != revision:
        try:
            clone = ready(repository, revision, Path.cwd(), folder)
        except UserError as error:
            _fail(str(error))
        # Prefect reads the repository's settings from there.
        os.chdir(clone / folder)
        os.execve(*_process(clone, folder))
    return {"directory": str(Path(os.environ[ENTERED]) / folder)}


def _fail(reason: str) -> NoReturn:
    """End the run in the state Failed; of an error here the worker reports the exit code alone."""
    from prefect.client.orchestration import get_client
    from prefect.states import Failed

    run = UUID(os.environ["PREFECT__FLOW_RUN_ID"])
    with get_client(sync_client=True) as client:
        client.set_flow_run_state(run, Failed(message=reason), force=True)
    print(f"error: {reason}", file=sys.stderr)
    # With any other code the worker would report a crash instead.
    sys.exit(0)


def ready(repository: str, revision: str, workspace: Path, folder: str = "") -> Path:
    """Prepare the revision's clone and environment, locked for as long as this process lives."""
    clone = workspace / REVISIONS / revision
    with alone(workspace):
        if not clone.is_dir():
            _clone(repository, revision, clone)
            _link_kept(workspace, clone, folder)
        locks = [_lock(clone), _lock(_environment(workspace, clone / folder))]
        _remove_unused(workspace)
        _make_setup(clone / folder)
    for lock in locks:
        os.set_inheritable(lock, True)
    return clone


def _clone(repository: str, revision: str, folder: Path) -> None:
    with whole_folder(folder) as aside:
        git.git(aside, "clone", "--quiet", "--no-checkout", repository, ".")
        git.git(aside, "checkout", "--quiet", "--detach", revision)


def _link_kept(workspace: Path, clone: Path, folder: str) -> None:
    """Link the folders that all revisions share."""
    home = next((p for p in workspace.parents if (p / ".dvc").is_dir()), workspace)
    for name in KEPT:
        (home / name).mkdir(parents=True, exist_ok=True)
    for name in (*KEPT, RAW):
        if not (home / name).is_dir() or (clone / folder / name).exists():
            continue
        link = clone / folder / name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(home / name)
    with (clone / ".git/info/exclude").open("a") as excluded:
        excluded.writelines(f"/{folder}{name}\n" for name in (*KEPT, ".venv"))


def environment_of(content: bytes) -> Path:
    """The folder of a lock's environment, below the workspace."""
    return ENVIRONMENTS / hashlib.sha256(content).hexdigest()[:16]


def _environment(workspace: Path, folder: Path) -> Path:
    """Link the environment of the clone's lock as its `.venv`; empty when the lock is new."""
    content = b"".join((folder / name).read_bytes() for name in LOCKS)
    place = workspace / environment_of(content)
    place.mkdir(parents=True, exist_ok=True)
    if not (folder / ".venv").is_symlink():
        (folder / ".venv").symlink_to(place)
    return place


def _make_setup(folder: Path) -> None:
    # So that make finds the shared environment newer than the clone's lock.
    for name in LOCKS:
        os.utime(folder / name, (0, 0))
    interpreter = f"PYTHON={getattr(sys, '_base_executable', sys.executable)}"
    processes.run(["make", "--silent", "setup", interpreter], cwd=folder)


def _lock(place: Path) -> int:
    """Lock a folder for as long as this process lives, also after `execve`."""
    lock = os.open(place, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_SH)
    return lock


def _remove_unused(workspace: Path) -> None:
    """Remove the revisions and environments that no process has locked."""
    for place in [*workspace.glob(f"{REVISIONS}/*"), *workspace.glob(f"{ENVIRONMENTS}/*")]:
        lock = os.open(place, os.O_RDONLY)
        try:
            with suppress(BlockingIOError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(place)
        finally:
            os.close(lock)


def _process(clone: Path, name: str) -> tuple[str, list[str], dict[str, str]]:
    """Prefect's engine in the revision's environment; variables tell it which run to execute."""
    folder = clone / name
    environment = {
        **os.environ,
        ENTERED: str(clone),
        "PATH": os.pathsep.join([str(folder / ".venv/bin"), os.environ["PATH"]]),
        "PYTHONPATH": os.pathsep.join([str(folder), str(folder / "src")]),
        "VIRTUAL_ENV": str(folder / ".venv"),
    }
    interpreter = str(folder / ".venv/bin/python")
    return interpreter, [interpreter, "-m", "prefect.engine"], environment
