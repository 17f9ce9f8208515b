"""The whole flow when nothing changed, against `dvc status`; and without a Prefect server.

Both sides are whole processes. What is not changed does not depend on how long it was searched
for, so the workspace is made with the shortest search; its data are the whole year's.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from statistics import median

from benchmarks.figure import Failed, Figure, Plan, at_most, progress, ratio
from benchmarks.process import Ended
from benchmarks.workspace import SERVERS, Workspace, serving, workspace

STAGES = 6


def measure(plan: Plan) -> Iterator[Figure]:
    """The flow with its server, `dvc status`, and the flow that starts a temporary server."""
    with workspace({**plan.changes, "tune.max_evals": 1}) as place, serving(place):
        progress("unchanged: making what is not to change")
        place.module("flows", "training")
        # Compiles what is imported for the first time, on either side.
        _unchanged(place)
        _status(place)
        progress("unchanged: flow and dvc status in turn")
        turns = [(_unchanged(place), _status(place)) for _ in range(plan.unchanged_runs)]
        flows, status = zip(*turns, strict=True)
        times, seconds = ratio(flows, status)
        # The flow imports Prefect and MLflow's client, each slower to import than DVC's status.
        yield at_most("flow / dvc status, nothing changed", times, 8, seconds)
        progress("unchanged: flow with a temporary Prefect server")
        temporary = [_with_temporary_server(place) for _ in range(plan.temporary_server_runs)]
        added = median(temporary) - median(flows)
        yield Figure("what a temporary Prefect server adds", f"{added:.1f} s")


def _unchanged(place: Workspace, variables: Mapping[str, str] | None = None) -> float:
    """Seconds of a flow, all of whose stages turned out to be up to date."""
    ended = place.module("flows", "training", watched=False, **(variables or {}))
    if ended.out.count(" unchanged ") != STAGES:
        raise Failed("flow: ran a stage although nothing had changed")
    return ended.seconds


def _status(place: Workspace) -> float:
    ended: Ended = place.module("dvc", "status")
    if "up to date" not in ended.out:
        raise Failed(f"dvc status: {ended.out.strip()}")
    return ended.seconds


def _with_temporary_server(place: Workspace) -> float:
    """Seconds of the same flow where no Prefect server is to be found; MLflow's stays."""
    note = place.root / SERVERS
    content = note.read_text()
    note.unlink()
    try:
        return _unchanged(place, {"MLFLOW_TRACKING_URI": json.loads(content)["urls"]["mlflow"]})
    finally:
        note.write_text(content)
