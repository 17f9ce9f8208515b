"""The whole flow when nothing changed, against `dvc status`.

Both sides are whole processes. What is not changed does not depend on how long it was searched
for, so the workspace is made with the shortest search; its data are the whole year's.
"""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.figure import Failed, Figure, at_most, progress, ratio
from benchmarks.workspace import Workspace, serving, workspace

STAGES, RUNS = 6, 5


def measure() -> Iterator[Figure]:
    """The flow with its server, in times of `dvc status`."""
    with workspace({"tune.max_evals": 1}) as place, serving(place):
        progress("unchanged: making what is not to change")
        place.module("flows", "training")
        # Compiles what is imported for the first time, on either side.
        _unchanged(place)
        _status(place)
        progress("unchanged: flow and dvc status in turn")
        turns = [(_unchanged(place), _status(place)) for _ in range(RUNS)]
        flows, status = zip(*turns, strict=True)
        times, seconds = ratio(flows, status)
        # The flow imports Prefect and MLflow's client, each slower to import than DVC's status.
        yield at_most("flow / dvc status, nothing changed", times, 8, seconds)


def _unchanged(place: Workspace) -> float:
    """Seconds of a flow, all of whose stages turned out to be up to date."""
    ended = place.module("flows", "training")
    if ended.out.count(" unchanged ") != STAGES:
        raise Failed("flow: ran a stage although nothing had changed")
    return ended.seconds


def _status(place: Workspace) -> float:
    ended = place.module("dvc", "status")
    if "up to date" not in ended.out:
        raise Failed(f"dvc status: {ended.out.strip()}")
    return ended.seconds
