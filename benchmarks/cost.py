"""What a pull request, a merge and a promotion cost on GitHub's runners, in billed minutes.

The verbs are those that the workflow files themselves call, job by job, as the tests execute them.
Each is run once here, in a copy of the repository with empty caches, and timed; the suite of the
template is replaced by a project's own lane, `make check`.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator

from benchmarks import process
from benchmarks.figure import Figure, progress
from benchmarks.workspace import REPOSITORY, Workspace, workspace
from tests.scenarios import SCENARIOS, on_github

EVENTS = {
    "a pull request": ("a pull request that is accepted", 20),
    "its merge, up to the release": ("a merge", 20),
    "the release's pull request": ("a pull request of a release", None),
    "a promotion's pull request": ("a pull request of a promotion", None),
    "the release's merge, with the deployment": ("a merge of a release", None),
    "a promotion": ("a promotion", None),
}
LANE = {"make test": "make check"}
# Told by their first words, with what a copy without a forge runs in their place.
VERBS = {
    "make setup": "make setup", "make lint": "make lint", "make check": "make check",
    "mlops pins-only": "mlops pins-only HEAD", "make retrain": "make retrain",
    "a training that is restored": "make retrain", "mlops publish": "mlops publish",
    "mlops gate": "mlops gate", "mlops report": "mlops report",
    "mlops unreleased": "mlops unreleased staging HEAD", "mlops changed": "mlops changed HEAD",
    "mlops history": "mlops history staging",
}  # fmt: skip
# What only speaks to the forge takes as long as what only reads Git.
ALIKE = {"mlops comment": "mlops history", "mlops mark": "mlops history",
         "mlops promote": "mlops history", "mlops release": "mlops report",
         "make train": "make retrain"}  # fmt: skip
RETRAIN, RESTORED = "make retrain", "a training that is restored"
RELEASED = "a pull request of a release"
# What the runner does before and after: it starts, checks out, restores .venv.
RUNNER_SECONDS = 45


def measure() -> Iterator[Figure]:
    """Billed minutes of each event, and the seconds of each verb."""
    seconds = {}
    with workspace() as place:
        for verb, command in VERBS.items():
            progress(verb)
            seconds[verb] = _timed(place, command.split())
            yield Figure(verb, f"{seconds[verb]:.0f} s")
        seconds["mlops reconcile"] = _baked()
    for event, (scenario, goal) in EVENTS.items():
        minutes = {}
        # What main has made is restored there.
        priced = seconds | ({RETRAIN: seconds[RESTORED]} if scenario == RELEASED else {})
        for job in on_github(REPOSITORY, SCENARIOS[scenario]).jobs:
            verbs = re.findall(r"^verb> (\S+ \S+)", job.out, flags=re.MULTILINE)
            if verbs:
                spent = sum(priced.get(_priced(verb), 0) for verb in verbs if verb != "make setup")
                minutes[job.name] = math.ceil((RUNNER_SECONDS + spent) / 60)
        detail = ", ".join(f"{name} {spent}" for name, spent in minutes.items())
        total = sum(minutes.values())
        limit = f"at most {goal} min" if goal else ""
        yield Figure(event, f"{total} min ({detail})", limit, total <= goal if goal else None)


def _priced(verb: str) -> str:
    verb = LANE.get(verb, verb)
    return ALIKE.get(verb, verb)


def _timed(place: Workspace, command: list[str]) -> float:
    path = f"{place.root / '.venv/bin'}{os.pathsep}{os.environ['PATH']}"
    return process.run(command, place.root, {**place.environment, "PATH": path}).seconds


def _baked() -> float:
    """The seconds that the slower environment's rollout bakes, which are most of a deployment."""
    from mlops.deploy import manifest

    rollouts = [manifest.load(REPOSITORY, name).rollout for name in manifest.names(REPOSITORY)]
    return max(rollout.bake_seconds * len(rollout.steps) for rollout in rollouts)
