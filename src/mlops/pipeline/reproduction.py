"""Reproduce stages with DVC: find what is stale, run it, or restore it from a cache."""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import psutil

from mlops.base import documents, processes
from mlops.base.errors import BUG, MENDABLE, UserError, one_line
from mlops.contract.stages import FINGERPRINT, MODULES, RECORD
from mlops.pipeline import dependencies, remotes, workspace
from mlops.pipeline.stage import exit_codes_since

if TYPE_CHECKING:
    from dvc.repo import Repo

How = Literal["run", "restored", "unchanged"]
DVCS_LOCK = Path(".dvc/tmp/rwlock")
# What the record was before the stage that is being reproduced; empty when there was none.
RECORD_BEFORE = Path(".dvc/tmp/dvc.lock.before")
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
    """Lock the workspace, and mend what a killed process left of DVC's files; raises UserError."""
    with workspace.alone(root):
        _drop_dead_locks(root)
        _restore_record(root)
        require_record(root)
        yield


@contextmanager
def _record_kept(root: Path) -> Iterator[None]:
    """Keep dvc.lock, which DVC writes in place, as it is unless the block ends well."""
    record, before = root / RECORD, root / RECORD_BEFORE
    before.parent.mkdir(parents=True, exist_ok=True)
    before.write_bytes(record.read_bytes() if record.exists() else b"")
    try:
        yield
    except BaseException:
        _restore_record(root)
        raise
    before.unlink()


def _restore_record(root: Path) -> None:
    """Restore dvc.lock after a process was killed, perhaps in the middle of writing it.

    What the killed process had recorded is found again in DVC's run cache.
    """
    before = root / RECORD_BEFORE
    if not before.exists():
        return
    if before.stat().st_size:
        before.replace(root / RECORD)
    else:
        (root / RECORD).unlink(missing_ok=True)
        before.unlink()


def require_record(root: Path) -> None:
    """Raise UserError for a dvc.lock that a merge left in conflict; the stages write it anew."""
    path = root / RECORD
    if path.exists() and (line := documents.conflict_line(path.read_text())):
        raise UserError(
            f"{RECORD}: line {line}: a merge conflict; take either side whole "
            f"(`git checkout --ours {RECORD}`), then `make retrain`"
        )


def _drop_dead_locks(root: Path) -> None:
    """Remove DVC's own lock file when no process that it names lives.

    DVC only checks that a process with that id exists: a zombie process, as in a container, or
    a later process with the same id would keep the lock for ever.
    """
    path = root / DVCS_LOCK
    if not path.exists():
        return
    written, locks = path.stat().st_mtime, {}
    with suppress(ValueError):  # Killed while it was written.
        locks = json.loads(path.read_text())
    holders = [*locks.get("write", {}).values(), *itertools.chain(*locks.get("read", {}).values())]
    if not any(_is_alive(holder["pid"], written) for holder in holders):
        path.unlink()


def _is_alive(pid: int, written: float) -> bool:
    """Whether the process that had this id at that time (seconds since 1970) still runs."""
    try:
        return processes.runs(pid) and psutil.Process(pid).create_time() <= written + 1
    except psutil.NoSuchProcess:
        return False


def reproduce(stage: str, root: Path) -> Reproduced:
    """Reproduce one stage: restore its output where it was made before, else run it.

    The remotes that `remotes` allows are used too. Raises StageFailed when the stage fails
    or DVC can't keep its output, UserError when an input moved; the earlier output is back then.
    """
    from dvc.exceptions import DvcException

    start, repo = time.time(), _repo(root)
    workspace.require_own(root, [stage])
    try:
        with _record_kept(root):
            if stage == "ingest":
                repo.reproduce(FINGERPRINT, single_item=True)
    # Nothing was removed yet, and a checkout would remove what DVC does not know.
    except DvcException as error:
        raise _failed(stage, start, error) from error
    before = dependencies.inputs(stage, root)
    try:
        with _record_kept(root):
            how = _reproduce(repo, stage, start)
            if how != "unchanged":
                _require_true(repo, stage, before)
    except BaseException as error:
        # DVC does not stop the command that it started, which would go on writing.
        processes.stop_children(MODULES[stage])
        # DVC removed the output before; the stage's own failure is what the user needs to see.
        with suppress(DvcException, OSError):
            repo.checkout([stage], force=True, allow_missing=True)
        if isinstance(error, DvcException):
            raise _failed(stage, start, error) from error
        raise
    return Reproduced(stage, how, time.time() - start)


def _require_true(repo: Repo, stage: str, before: Mapping[str, object]) -> None:
    """Raise unless DVC has kept the stage's output, made from the inputs that it recorded."""
    from dvc.exceptions import DvcException
    from dvc.stage.cache import _get_stage_hash

    (made,) = repo.stage.collect(stage)
    if not made.outs_cached():
        raise DvcException(f"DVC can't keep its output: {remotes.not_copied()}")
    try:
        dependencies.require_unmoved(stage, before, Path(repo.root_dir))
    except UserError:
        # It would be restored from there for other inputs than it was made from.
        shutil.rmtree(repo.stage_cache._get_cache_dir(_get_stage_hash(made)))
        raise


def _repo(root: Path) -> Repo:
    from dvc.repo import Repo

    # `python` in dvc.yaml is this interpreter, also where its environment is not activated.
    programs, path = str(Path(sys.executable).parent), os.environ.get("PATH", "")
    if path.split(os.pathsep)[0] != programs:
        os.environ["PATH"] = os.pathsep.join([programs, path])
    remotes.begin_log()
    try:
        return Repo(str(root))
    except Exception as error:
        raise UserError(f"{root.resolve()}: not a DVC repository: {error}") from None


def _reproduce(repo: Repo, stage: str, since: float) -> How:
    """Have DVC reproduce the stage; a remote that does not answer is left out."""
    if not repo.status([stage]):
        return "unchanged"
    for name in remotes.others(repo):
        _uses(repo, name, partial(remotes.restore, repo, stage, name))
    default, make = remotes.default(repo), partial(repo.reproduce, stage, single_item=True)
    if not (default and _uses(repo, default, partial(make, pull=True))):
        make()
    return "run" if stage in exit_codes_since(since) else "restored"


def _uses(repo: Repo, remote: str, action: Callable[[], object]) -> bool:
    """Do what needs a remote, and tell whether the remote answered and it was done."""
    from dvc.stage.exceptions import StageCmdFailedError

    if remote in _unreachable_remotes:
        return False
    try:
        remotes.require_answer(repo, remote)
        action()
    except Exception as error:
        if isinstance(error.__cause__, StageCmdFailedError):
            raise
        _unreachable_remotes.add(remote)
        print(f"DVC's remote {remote!r} is not used: {_reason(error)}", file=sys.stderr)
        return False
    return True


def _failed(stage: str, since: float, error: Exception) -> StageFailed:
    code = exit_codes_since(since).get(stage)
    reason = _reason(error)
    status = re.search(r"exited with (-?\d+)$", reason)
    if not code and status and int(status[1]) == MENDABLE:
        code = MENDABLE  # The fingerprint's command has said why.
    if code:
        return StageFailed(stage, code, f"{stage}: see the line above")
    code = int(status[1]) if status else 0
    killer = ended_by(code)
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
    return one_line(cause)
