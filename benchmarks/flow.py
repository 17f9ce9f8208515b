"""The whole flow from empty caches, against the same stage functions in one bare process; and again
when nothing has changed, against `dvc status`.

Each run has a fresh copy of the repository, and MLflow and Prefect servers of its own, started
before the clock as `make up` starts them. Both sides are whole processes, from the interpreter's
start to its end, and both are watched: sampling memory costs them the same. The bare process,
`python -m benchmarks.flow`, has no flow and no DVC.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from benchmarks.figure import Failed, Figure, at_least, at_most, progress, ratio
from benchmarks.process import Ended
from benchmarks.workspace import Workspace, serving, workspace
from mlops.base.files import read_json
from mlops.contract import bundle, params
from mlops.contract.paths import BUNDLE, EVIDENCE
from mlops.contract.stages import MADE_BY_DVC, MODULES

COMMANDS = {"flow": ("flows", "training"), "bare": ("benchmarks.flow",)}
# Pairs of whole runs, and of runs when nothing has changed.
PAIRS, AGAIN = 2, 5


class Ran(NamedTuple):
    """One run: what it took, and what it made."""

    side: str
    ended: Ended
    digest: str
    auc: dict[str, float]
    unchanged: list[tuple[float, float]]


def measure() -> Iterator[Figure]:
    """Overhead, peak memory, holdout ROC AUC and the bundles' digests, of the same runs."""
    # Interleaved so that a machine that gets slower or faster favours neither side.
    order = [sorted(COMMANDS, reverse=pair % 2 == 0) for pair in range(PAIRS)]
    runs = [_run(side) for pair in order for side in pair]
    flows, bare = ([ran for ran in runs if ran.side == side] for side in COMMANDS)
    seconds = ([ran.ended.seconds for ran in side] for side in (flows, bare))
    overhead, detail = ratio(*seconds)
    yield at_most("flow / bare process, empty caches", overhead, 1.35, detail)
    peak = max(ran.ended.peak for ran in flows) / 1e9
    yield at_most("peak memory of the flow, GB", peak, 3, "whole process tree")
    auc = flows[-1].auc
    interval = f"{auc['low']:.4f} to {auc['high']:.4f}"
    yield at_least("holdout ROC AUC", auc["value"], 0.73, interval, digits=4)
    # All runs made the same bytes, with and without Prefect and DVC.
    digests = {ran.digest[:12] for ran in runs}
    detail = f"{len(runs)} runs: {', '.join(sorted(digests))}"
    yield Figure("bundle digest, each from empty caches", detail, "equal", len(digests) == 1)
    times, detail = ratio(*zip(*flows[-1].unchanged, strict=True))
    # The flow imports Prefect and MLflow's client, each slower to import than DVC's status.
    yield at_most("flow / dvc status, nothing changed", times, 8, detail)


def _run(side: str) -> Ran:
    with workspace() as place:
        progress(f"{side}: starting servers")
        with serving(place):
            progress(f"{side}: whole run from empty caches")
            ended = place.module(*COMMANDS[side], watched=True)
            unchanged = list(_unchanged(place)) if side == "flow" else []
        auc = read_json(place.root / EVIDENCE / "metrics.json")["holdout"]["roc_auc"]
        return Ran(side, ended, bundle.digest(place.root / BUNDLE), auc, unchanged)


def _unchanged(place: Workspace) -> Iterator[tuple[float, float]]:
    """Seconds of a flow, all of whose stages turn out to be up to date, and of `dvc status`."""
    progress("unchanged: flow and dvc status in turn")
    for number in range(AGAIN + 1):
        flow, status = place.module("flows", "training"), place.module("dvc", "status")
        if flow.out.count(" unchanged ") != len(MODULES) or "up to date" not in status.out:
            raise Failed("flow: ran a stage although nothing had changed")
        # The first ones compile what they import.
        if number:
            yield flow.seconds, status.seconds


if __name__ == "__main__":
    from mlops.pipeline import servers

    # Both sides track to the same kind of server.
    servers.use()
    for name in (*MADE_BY_DVC, "register"):
        result = importlib.import_module(MODULES[name]).run(params.load_all(), Path())
        print(name, result.model_dump_json(), flush=True)
