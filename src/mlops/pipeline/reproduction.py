"""Reproduce stages with DVC: find what is stale, run it, or restore it from a cache."""

from __future__ import annotations

import itertools
import json
import logging
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Container, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import psutil

from mlops.base import processes
from mlops.base.errors import BUG, MENDABLE, UserError
from mlops.base.files import whole_file, write_json
from mlops.contract.stages import MADE_BY_DVC, MODULES
from mlops.pipeline import remotes
from mlops.pipeline.stage import Ran, ran_since

if TYPE_CHECKING:
    from dvc.repo import Repo

How = Literal["run", "restored", "unchanged"]
LOCK = Path(".dvc/tmp/training.lock")
DVCS_LOCK = Path(".dvc/tmp/rwlock")
RECORD = Path("dvc.lock")
# What the record was before the stage that is being reproduced; empty when there was none.
RECORD_BEFORE = Path(".dvc/tmp/dvc.lock.before")
_status_processes: dict[Path, subprocess.Popen[bytes]] = {}
_unreachable_remotes: set[str] = set()


@dataclass(frozen=True)
class Reproduced:
    """How a stage got its output: run, restored from a cache, or unchanged."""

    stage: str
    how: How
    seconds: float


class StageFailed(Exception):
    """A stage's command failed, after it printed why. `exit_code` is the command's."""

    def __init__(self, stage: str, exit_code: int, reason: str) -> None:
        super().__init__(reason)
        self.stage, self.exit_code = stage, exit_code


@contextmanager
def alone(root: Path) -> Iterator[None]:
    """Lock the workspace: two trainings in one folder would write the same outputs.

    Raises UserError when another process holds it.
    """
    from filelock import FileLock, Timeout

    path = root / LOCK
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(path, timeout=0):
            _drop_dead_locks(root)
            _restore_record(root)
            yield
    except Timeout:
        raise UserError(
            f"{path}: another training runs in this folder; wait for it to end, or stop it"
        ) from None


@contextmanager
def _record_kept(root: Path) -> Iterator[None]:
    """Keep a copy of dvc.lock while DVC may rewrite it, which it does in place."""
    record, before = root / RECORD, root / RECORD_BEFORE
    before.parent.mkdir(parents=True, exist_ok=True)
    before.write_bytes(record.read_bytes() if record.exists() else b"")
    try:
        yield
    finally:
        before.unlink(missing_ok=True)


def _restore_record(root: Path) -> None:
    """Restore dvc.lock after a process was killed, perhaps in the middle of writing it.

    What the killed process had recorded is found again in DVC's run cache.
    """
    before = root / RECORD_BEFORE
    if not before.exists():
        return
    content = before.read_bytes()
    if content:
        with whole_file(root / RECORD) as partial:
            partial.write_bytes(content)
    else:
        (root / RECORD).unlink(missing_ok=True)
    before.unlink()


def _drop_dead_locks(root: Path) -> None:
    """Drop the locks of killed processes from DVC's own lock file.

    DVC only checks that a process with that id exists: a zombie process, as in a container, or
    a later process with the same id would keep the lock for ever.
    """
    path = root / DVCS_LOCK
    try:
        written, locks = path.stat().st_mtime, json.loads(path.read_text())
    except FileNotFoundError:
        return
    except ValueError:  # Killed while it was written.
        path.unlink()
        return
    writers = {
        name: info
        for name, info in locks.get("write", {}).items()
        if _is_alive(info["pid"], written)
    }
    readers = {
        name: [info for info in infos if _is_alive(info["pid"], written)]
        for name, infos in locks.get("read", {}).items()
    }
    living = {"write": writers, "read": {name: infos for name, infos in readers.items() if infos}}
    if living != locks:
        write_json(path, living)


def _is_alive(pid: int, written: float) -> bool:
    """Whether the process that had this id at that time (seconds since 1970) still runs."""
    try:
        return processes.runs(pid) and psutil.Process(pid).create_time() <= written + 1
    except psutil.NoSuchProcess:
        return False


def start_status(root: Path) -> None:
    """Start `dvc status` in a process of its own, while this one imports."""
    if root not in _status_processes:
        _status_processes[root] = subprocess.Popen(
            [sys.executable, "-m", "dvc", "status", "--json"],
            cwd=root,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )


def unchanged(root: Path) -> tuple[str, ...]:
    """The stages, from the first on, that are as dvc.lock says; none when `dvc status` fails."""
    start_status(root)
    output, _ = _status_processes.pop(root).communicate()
    return _before_first(json.loads(output)) if output else ()


def _before_first(changed: Container[str]) -> tuple[str, ...]:
    """The stages before the first changed one; those after it may change with it."""
    return tuple(itertools.takewhile(lambda stage: stage not in changed, MADE_BY_DVC))


def reproduce(stage: str, root: Path, known: Container[str] = ()) -> Reproduced:
    """Reproduce one stage: restore its output where it was made before, else run it.

    With a default remote configured, its cache is used too. Stages that are `known` to be
    unchanged are skipped. Raises StageFailed when the stage's command fails; the stage's earlier
    output is put back then.
    """
    start = time.time()
    if stage in known:
        return Reproduced(stage, "unchanged", time.time() - start)
    from dvc.exceptions import DvcException

    repo = _repo(root)
    try:
        with _record_kept(root):
            how = _reproduce(repo, stage, start)
    except DvcException as error:
        _restore_output(repo, stage)
        raise _failed(stage, start, error) from error
    except BaseException:
        # DVC does not stop the command that it started, which would go on writing.
        processes.stop_children(MODULES[stage])
        _restore_output(repo, stage)
        raise
    return Reproduced(stage, how, time.time() - start)


def _repo(root: Path) -> Repo:
    from dvc.repo import Repo

    # DVC's progress bars and notes would hide those of the stages.
    logging.getLogger("dvc").setLevel(logging.CRITICAL)
    try:
        return Repo(str(root))
    except Exception as error:
        raise UserError(f"{root.resolve()}: not a DVC repository: {error}") from None


def _reproduce(repo: Repo, stage: str, since: float) -> How:
    """Have DVC reproduce the stage; a remote that does not answer is left out."""
    from dvc.stage.exceptions import StageCmdFailedError

    if not repo.status([stage]):
        return "unchanged"
    remote = remotes.default(repo)
    if remote in _unreachable_remotes:
        remote = None
    with _python_on_path():
        try:
            if remote:
                remotes.require_answer(repo)
            repo.reproduce(stage, single_item=True, pull=remote is not None)
        except Exception as error:
            if remote is None or isinstance(error.__cause__, StageCmdFailedError):
                raise
            _unreachable_remotes.add(remote)
            print(f"DVC's remote {remote!r} is not used: {_reason(error)}", file=sys.stderr)
            repo.reproduce(stage, single_item=True)
    return "run" if _ran(stage, since) else "restored"


@contextmanager
def _python_on_path() -> Iterator[None]:
    """Let `python` in dvc.yaml be this interpreter, also where its environment is not activated."""
    before = os.environ.get("PATH", "")
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), before])
    try:
        yield
    finally:
        os.environ["PATH"] = before


def _restore_output(repo: Repo, stage: str) -> None:
    """Restore what DVC removed before it ran the stage: the output recorded in dvc.lock."""
    from dvc.exceptions import DvcException

    # The stage's own failure is what the user needs to see.
    with suppress(DvcException):
        repo.checkout([stage], force=True, allow_missing=True)


def _ran(stage: str, since: float) -> Ran | None:
    return next((ran for ran in ran_since(since) if ran.stage == stage), None)


def _failed(stage: str, since: float, error: Exception) -> StageFailed:
    ran = _ran(stage, since)
    if ran:
        return StageFailed(stage, ran.exit_code, f"{stage}: see the line above")
    reason = _reason(error)
    status = re.search(r"exited with (-?\d+)$", reason)
    code = int(status[1]) if status else None
    killer = ended_by(code) if code else None
    if killer:
        hint = "; was there memory enough?" if killer is signal.SIGKILL else ""
        reason = f"stopped by {killer.name}, its earlier output is back in place{hint}"
    print(f"error: {stage}: {reason}", file=sys.stderr)
    # A command that fails without a message has a bug; what DVC itself refuses, the user can fix.
    return StageFailed(stage, 128 + killer if killer else BUG if code else MENDABLE, reason)


def ended_by(code: int) -> signal.Signals | None:
    """The signal that ended a command, by the command's exit code or by its shell's."""
    number = -code if code < 0 else code - 128
    return next((known for known in signal.Signals if known == number), None)


def _reason(error: Exception) -> str:
    """DVC's message in one line; for a failed stage, that of its cause."""
    from dvc.exceptions import ReproductionError

    cause = error.__cause__ if isinstance(error, ReproductionError) else error
    return " ".join(str(cause).split())
