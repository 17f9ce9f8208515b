"""`python -m benchmarks.year`: play the year, print each figure beside its goal, draw it.

Three teams begin with the same model, trained on data until May. Each month their services are
asked about that month's flights; labels arrive at its end. One never retrains, one does every
month, one when monitoring says so. Everything is the project's own: service, monitoring, training,
gate, proposals, release. Exits 1 when a figure falls short of its goal.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pandas as pd

from benchmarks.figure import progress
from benchmarks.workspace import REPOSITORY, Workspace, workspace
from benchmarks.year import picture
from benchmarks.year.play import END, START, Game
from benchmarks.year.policies import POLICIES, figures
from benchmarks.year.source import Source
from benchmarks.year.team import Team
from mlops.contract import params
from mlops.forge import git
from mlops.pipeline import servers

PICTURE = REPOSITORY / "docs" / "year.png"
LIMIT_MINUTES = 15.0
# A month is held out instead of a third of a year, and a short search finds what a long one does.
CHANGES: dict[str, Any] = {
    "data.until": START.isoformat(),
    "split.holdout_days": 28,
    "split.validation_days": 14,
    "split.folds": 1,
    "tune.max_evals": 1,
    "tune.families": ["lightgbm"],
    "evaluate.draws": 50,
    "evaluate.importance_rows": 1000,
    "evaluate.importance_repeats": 1,
    # What a third of a year is asked for is too much for a month; the champion stays the measure.
    "gate.limits": {"roc_auc": 0.65, "calibration_error": 0.1},
    # Other work on this machine shall not refuse a model.
    "gate.latency_ms": 100.0,
}


def main() -> int:
    """Play, print, draw; the exit code."""
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    start = time.monotonic()
    with workspace({}) as place, _environment(place):
        game = _set_up(place)
        played = list(game.play())
    picture.draw(pd.DataFrame([vars(one) for one in played]), PICTURE)
    found = figures(played, time.monotonic() - start, LIMIT_MINUTES)
    for figure in found:
        print(figure.line)
    progress(f"drawn: {PICTURE.relative_to(REPOSITORY)}")
    return 0 if all(figure.reached is not False for figure in found) else 1


def _set_up(place: Workspace) -> Game:
    """One team with a first model in production, and two more that begin where it is."""
    base = place.root.parent
    source = Source(base / "whole", base / "known")
    progress("reading the year")
    source.fill(params.load_all(place.root), END)
    source.arrive(START)
    place.change(
        CHANGES
        | {
            "data.source": "files",
            "data.location": str(source.known),
            "monitoring.logs": str(base / "logs"),
            "monitoring.labels": str(base / "labels"),
        }
    )
    first = Team(base / POLICIES[0])
    _found(place, first)
    progress("training the first model")
    first.release()
    teams = {
        policy: first if policy == "never" else first.copy(base / policy) for policy in POLICIES
    }
    return Game(base, source, teams)


def _found(place: Workspace, team: Team) -> None:
    """Let the copy be a clone of a bare remote, with a DVC cache that all teams share."""
    team.base.mkdir()
    place.root.rename(team.root)
    cache = f"[cache]\n    dir = {place.root.parent / 'cache'}\n"
    with (team.root / ".dvc" / "config").open("a") as config:
        config.write(cache)
    for name, value in {"user.name": "simulation", "user.email": "simulation@localhost"}.items():
        git.git(team.root, "config", name, value)
    git.git(team.root, "commit", "--quiet", "--all", "--message", f"Until {START}")
    git.git(team.root, "branch", "--move", "--force", "main")
    git.git(team.base, "clone", "--quiet", "--bare", str(team.root), "origin.git")
    git.git(team.root, "remote", "add", git.REMOTE, str(team.base / "origin.git"))
    git.fetch(team.root, "main")


@contextmanager
def _environment(place: Workspace) -> Iterator[None]:
    """This process's variables point into the copy; a Prefect server there is for all trainings."""
    before, own = dict(os.environ), place.environment
    folder = place.root.parent / "servers"
    folder.mkdir()
    os.environ.clear()
    os.environ.update(own | {"PYTHONPATH": str(REPOSITORY)})
    progress("starting a Prefect server")
    try:
        os.environ["PREFECT_API_URL"] = f"{servers.up(folder)['prefect']}/api"
        yield
    finally:
        servers.down(folder)
        os.environ.clear()
        os.environ.update(before)


if __name__ == "__main__":
    sys.exit(main())
