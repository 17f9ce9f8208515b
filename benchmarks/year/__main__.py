"""`python -m benchmarks.year`: simulate the year, print each figure beside its goal, draw it.

Three teams begin with the same model, trained on data until May. Each month their models score
that month's flights, whose features are published and asked for by key; their outcomes are in the
source at its end. One team never retrains, one every month, one when
monitoring says so. All parts are the project's own: scoring, monitoring, training, gate, proposals,
release. Exits 1 when a figure misses its goal.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import pandas as pd

from benchmarks.figure import progress
from benchmarks.workspace import REPOSITORY, Workspace, workspace
from benchmarks.year import picture
from benchmarks.year.play import END, START, Simulation
from benchmarks.year.policies import POLICIES, figures
from benchmarks.year.source import Source
from benchmarks.year.team import Team
from mlops.contract import params
from mlops.forge import git
from mlops.pipeline import servers

PICTURE = REPOSITORY / "docs" / "year.png"
LIMIT_MINUTES = 15.0
# A holdout of a month instead of a third of a year, and a short search, so that the year is fast.
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
    # Limits that a month's holdout can meet; the champion remains the measure.
    "gate.limits": {"roc_auc": 0.65, "calibration_error": 0.1},
    # So that other work on this machine makes no model fail the gate.
    "gate.latency_ms": 100.0,
}


def main() -> int:
    """Simulate, print, draw; gives the exit code."""
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    start = time.monotonic()
    with workspace({}) as place, _environment(place):
        months = list(_set_up(place).run())
    picture.draw(pd.DataFrame([vars(month) for month in months]), PICTURE)
    measured = figures(months, time.monotonic() - start, LIMIT_MINUTES)
    for figure in measured:
        print(figure.line)
    progress(f"drawn: {PICTURE.relative_to(REPOSITORY)}")
    return 0 if all(figure.reached is not False for figure in measured) else 1


def _set_up(place: Workspace) -> Simulation:
    """One team with a first model in production, and two copies of it."""
    base = place.root.parent
    source = Source(base / "whole", base / "arrived")
    progress("reading the year")
    source.fill(params.load_all(place.root), END)
    source.arrive(START)
    monitored = {"monitoring.logs": str(base / "logs")}
    files = {"data.source": "files", "data.location": str(source.arrived)}
    place.change(CHANGES | files | monitored)
    first = Team(base / POLICIES[0])
    _make_team(place, first)
    progress("training the first model")
    first.release()
    others = {policy: first.copy(base / policy) for policy in POLICIES[1:]}
    return Simulation(base, source, {POLICIES[0]: first, **others})


def _make_team(place: Workspace, team: Team) -> None:
    """Make the copy a team's repository, with a DVC cache that all teams share."""
    team.base.mkdir()
    place.root.rename(team.root)
    cache = f"[cache]\n    dir = {place.root.parent / 'cache'}\n"
    with (team.root / ".dvc" / "config").open("a") as config:
        config.write(cache)
    for name, value in {"user.name": "simulation", "user.email": "simulation@localhost"}.items():
        git.git(team.root, "config", name, value)
    git.git(team.root, "commit", "--quiet", "--all", "--message", f"Until {START}")
    git.git(team.root, "branch", "--move", "--force", "main")


@contextmanager
def _environment(place: Workspace) -> Iterator[None]:
    """Point this process's variables into the copy, and start a Prefect server for trainings."""
    folder = place.root.parent / "servers"
    folder.mkdir()
    variables = {**place.environment, "PYTHONPATH": str(REPOSITORY)}
    progress("starting a Prefect server")
    with mock.patch.dict(os.environ, variables, clear=True):
        try:
            os.environ["PREFECT_API_URL"] = f"{servers.up(folder)['prefect']}/api"
            yield
        finally:
            servers.down(folder)


if __name__ == "__main__":
    sys.exit(main())
