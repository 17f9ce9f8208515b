"""DVC's side of a run: what is stale, and what was made before and need not be made again."""

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
from mlops.base.files import write_json
from mlops.contract.stages import MODULES
from mlops.pipeline import remotes
from mlops.pipeline.stage import Ran, ran_since

if TYPE_CHECKING:
    from dvc.repo import Repo

How = Literal["run", "restored", "unchanged"]
STAGES = ("ingest", "featurize", "tune", "train", "evaluate")
LOCK = Path(".dvc/tmp/training.lock")
DVCS_LOCK = Path(".dvc/tmp/rwlock")
_asked: dict[Path, subprocess.Popen[bytes]] = {}
_out_of_reach: set[str] = set()


@dataclass(frozen=True)
class Reproduced:
    """How a stage came by its output: executed, restored from a cache, or already there."""

    stage: str
    how: How
    seconds: float


class StageFailed(Exception):
    """A stage's command failed; it has said why itself. `exit_code` is the command's."""

    def __init__(self, stage: str, exit_code: int, reason: str) -> None:
        super().__init__(reason)
        self.stage, self.exit_code = stage, exit_code


@contextmanager
def alone(root: Path) -> Iterator[None]:
    """Hold the workspace: two trainings in one folder would write the same outputs.

    Raises UserError when another process holds it.
    """
    from filelock import FileLock, Timeout

    path = root / LOCK
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(path, timeout=0):
            _forget_the_dead(root)
            yield
    except Timeout:
        raise UserError(
            f"{path}: another training runs in this folder; wait for it to end, or stop it"
        ) from None


def _forget_the_dead(root: Path) -> None:
    """Drop what killed processes still hold in DVC's own lock file.

    DVC asks only whether a process of that number exists: a zombie process, as in a container, or
    a later process of the same number would hold its outputs for ever.
    """
    path = root / DVCS_LOCK
    try:
        since, held = path.stat().st_mtime, json.loads(path.read_text())
    except FileNotFoundError:
        return
    except ValueError:  # Killed while it was written.
        path.unlink()
        return
    writers = {
        name: info for name, info in held.get("write", {}).items() if _lives(info["pid"], since)
    }
    readers = {
        name: [info for info in infos if _lives(info["pid"], since)]
        for name, infos in held.get("read", {}).items()
    }
    living = {"write": writers, "read": {name: infos for name, infos in readers.items() if infos}}
    if living != held:
        write_json(path, living)


def _lives(pid: int, since: float) -> bool:
    """Whether the process that had this number at that time still runs."""
    try:
        return processes.runs(pid) and psutil.Process(pid).create_time() <= since + 1
    except psutil.NoSuchProcess:
        return False


def ask(root: Path) -> None:
    """Have DVC look for what changed, in a process of its own, while this one imports."""
    if root not in _asked:
        _asked[root] = subprocess.Popen(
            [sys.executable, "-m", "dvc", "status", "--json"],
            cwd=root,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )


def unchanged(root: Path) -> tuple[str, ...]:
    """The stages, from the first on, that are as dvc.lock says; none when DVC can't tell."""
    ask(root)
    answer, _ = _asked.pop(root).communicate()
    return _before_first(json.loads(answer)) if answer else ()


def _before_first(changed: Container[str]) -> tuple[str, ...]:
    """What follows a changed stage may change with it, whatever the status says of it now."""
    return tuple(itertools.takewhile(lambda stage: stage not in changed, STAGES))


def reproduce(stage: str, root: Path, known: Container[str] = ()) -> Reproduced:
    """Ask DVC for one stage's output: restored where it was made before, else made now.

    With a default remote configured, its cache is asked too. What is `known` to be unchanged is
    not asked for again. Raises StageFailed when the stage's command fails; the stage's earlier
    output is put back then.
    """
    start = time.time()
    if stage in known:
        return Reproduced(stage, "unchanged", time.time() - start)
    from dvc.exceptions import DvcException

    repo = _repo(root)
    try:
        how = _made(repo, stage, start)
    except DvcException as error:
        _put_back(repo, stage)
        raise _failed(stage, start, error) from error
    except BaseException:
        # Nobody else ends what DVC started: it would go on writing.
        processes.stop_children(MODULES[stage])
        _put_back(repo, stage)
        raise
    return Reproduced(stage, how, time.time() - start)


def _repo(root: Path) -> Repo:
    from dvc.repo import Repo

    # DVC's bars and notes would cover the stages' own.
    logging.getLogger("dvc").setLevel(logging.CRITICAL)
    try:
        return Repo(str(root))
    except Exception as error:
        raise UserError(f"{root.resolve()}: not a DVC repository: {error}") from None


def _made(repo: Repo, stage: str, since: float) -> How:
    """Have DVC make the stage's output what it should be. A remote out of reach is done without."""
    from dvc.stage.exceptions import StageCmdFailedError

    if not repo.status([stage]):
        return "unchanged"
    remote = remotes.default(repo)
    if remote in _out_of_reach:
        remote = None
    with _python_on_path():
        try:
            if remote:
                remotes.require_answer(repo)
            repo.reproduce(stage, single_item=True, pull=remote is not None)
        except Exception as error:
            if remote is None or isinstance(error.__cause__, StageCmdFailedError):
                raise
            _out_of_reach.add(remote)
            print(f"not asked, DVC's remote {remote!r}: {_reason(error)}", file=sys.stderr)
            repo.reproduce(stage, single_item=True)
    return "run" if _ran(stage, since) else "restored"


@contextmanager
def _python_on_path() -> Iterator[None]:
    """Let `python` in dvc.yaml be this interpreter, whether or not its folder was activated."""
    before = os.environ.get("PATH", "")
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), before])
    try:
        yield
    finally:
        os.environ["PATH"] = before


def _put_back(repo: Repo, stage: str) -> None:
    """Restore what DVC removed before it ran the stage: the output that dvc.lock speaks of."""
    from dvc.exceptions import DvcException

    # What went wrong before is what the user has to hear of.
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
    # A command that failed without a word has a bug; what DVC itself refuses can be mended.
    return StageFailed(stage, 128 + killer if killer else BUG if code else MENDABLE, reason)


def ended_by(code: int) -> signal.Signals | None:
    """The signal that ended a command, by the command's exit code or by its shell's."""
    number = -code if code < 0 else code - 128
    return next((known for known in signal.Signals if known == number), None)


def _reason(error: Exception) -> str:
    """DVC's own words, in one line; of a stage that failed they are the cause's."""
    from dvc.exceptions import ReproductionError

    said = error.__cause__ if isinstance(error, ReproductionError) else error
    return " ".join(str(said).split())
