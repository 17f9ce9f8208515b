"""The team's servers as processes of this machine, without Docker: `make stack`.

The same as `infra/local/compose.yaml`: PostgreSQL, Azurite, MLflow, Prefect with a worker,
Prometheus and its gateway, and the scoring service when there is a bundle. All that they keep
lies below `.run/stack/`, passwords that are made there at the first start included.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from mlops.base import processes
from mlops.base.errors import UserError
from mlops.base.files import alone
from mlops.stack import parts
from mlops.stack.home import Home
from mlops.stack.parts import Part

PIDS = "processes.json"


@dataclass(frozen=True)
class Started:
    """A process that was started, known again by when it began."""

    pid: int
    born: float

    def lives(self) -> bool:
        """Whether it still runs: after a restart its number may be another's."""
        try:
            found = psutil.Process(self.pid)
            return found.create_time() == self.born and found.status() != psutil.STATUS_ZOMBIE
        except psutil.Error:
            return False


def up(root: Path = Path(), place: Path | None = None) -> Iterator[str]:
    """Start what does not run yet, one after the other; a line for each, then how to use them.

    Raises UserError when a program is missing, or with the log's place when one does not start.
    """
    home = Home.at(root, place)
    with alone(home.folder), alone(Path(tempfile.gettempdir())):
        for wave in parts.waves(home):
            missing = [part for part in wave if not _runs(home, part)]
            for part in missing:
                begin(home, part)
            for part in missing:
                settle(home, part)
            yield from (f"{part.name:<12} {part.address}" for part in wave)
    home.write_environment()
    yield f"to use them: set -a; . {home.folder / 'environment'}"


def down(root: Path = Path(), place: Path | None = None) -> list[str]:
    """Stop what `up` started; gives the names of those that still ran."""
    home = Home.at(root, place)
    running = {name: one for name, one in _started(home).items() if one.lives()}
    by_pid = {one.pid: one for one in running.values()}
    # Those that were started last know of the others.
    for name in reversed(running):
        processes.stop([running[name].pid], lambda pid: by_pid[pid].lives())
    (home.folder / PIDS).unlink(missing_ok=True)
    return list(running)


def begin(home: Home, part: Part) -> None:
    """Start one."""
    pid = processes.start(part.command, _log(home, part), home.root, part.environment(), part.user)
    noted = {name: asdict(one) for name, one in _started(home).items()}
    noted[part.name] = asdict(Started(pid, psutil.Process(pid).create_time()))
    (home.folder / PIDS).write_text(json.dumps(noted) + "\n")


def settle(home: Home, part: Part) -> None:
    """Wait until it answers. Raises UserError with the log's place when it does not."""
    if not processes.wait(part.ready, _started(home)[part.name].lives):
        raise UserError(f"{part.name} did not start; see {_log(home, part)}")
    part.then()


def _runs(home: Home, part: Part) -> bool:
    known = _started(home).get(part.name)
    return known is not None and known.lives()


def _log(home: Home, part: Part) -> Path:
    return home.folder / "logs" / f"{part.name}.log"


def _started(home: Home) -> dict[str, Started]:
    try:
        noted = json.loads((home.folder / PIDS).read_text())
    except (FileNotFoundError, ValueError):
        return {}
    return {name: Started(**one) for name, one in noted.items()}
