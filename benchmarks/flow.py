"""The whole flow from empty caches, against the same stage functions in one bare process.

Each run has a fresh copy of the repository, and MLflow and Prefect servers of its own, started
before the clock as `make up` starts them. Both sides are whole processes, from the interpreter's
start to its end, and both are watched: sampling memory costs them the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from benchmarks.figure import Figure, Plan, at_least, at_most, progress, ratio
from benchmarks.workspace import Workspace, serving, workspace
from mlops.base.files import read_json
from mlops.contract import bundle
from mlops.contract.paths import BUNDLE, EVIDENCE

GIGABYTE = 1e9

Side = Literal["flow", "bare"]
COMMANDS: dict[Side, tuple[str, ...]] = {
    "flow": ("flows", "training"),
    "bare": ("benchmarks.bare",),
}


@dataclass(frozen=True)
class Ran:
    """One run: wall time in seconds, peak memory in bytes, and what it made."""

    side: Side
    seconds: float
    peak: int
    digest: str
    auc: dict[str, float]


def measure(plan: Plan) -> Iterator[Figure]:
    """Overhead, peak memory, holdout ROC AUC and the bundles' digests, of the same runs."""
    runs = [_run(side, plan) for side in _order(plan.flow_runs)]
    flows, bare = ([ran for ran in runs if ran.side == side] for side in COMMANDS)
    overhead, seconds = ratio([r.seconds for r in flows], [r.seconds for r in bare])
    yield at_most("flow / bare process, empty caches", overhead, 1.35, seconds)
    peak = max(ran.peak for ran in flows) / GIGABYTE
    yield at_most("peak memory of the flow, GB", peak, 3, "whole process tree")
    auc = flows[-1].auc
    interval = f"{auc['low']:.4f} to {auc['high']:.4f}"
    yield at_least("holdout ROC AUC", auc["value"], 0.73, interval, digits=4)
    yield _digests(runs)


def _order(pairs: int) -> list[Side]:
    """Interleaved so that a machine that gets slower or faster favours neither side."""
    there: list[Side] = ["flow", "bare"]
    back: list[Side] = ["bare", "flow"]
    return [side for pair in range(pairs) for side in (back if pair % 2 else there)]


def _run(side: Side, plan: Plan) -> Ran:
    with workspace(plan.changes) as place:
        progress(f"{side}: starting servers")
        with serving(place):
            progress(f"{side}: whole run from empty caches")
            ended = place.module(*COMMANDS[side], watched=True)
        return Ran(side, ended.seconds, ended.peak, bundle.digest(place.root / BUNDLE), _auc(place))


def _auc(place: Workspace) -> dict[str, float]:
    auc: dict[str, float] = read_json(place.root / EVIDENCE / "metrics.json")["holdout"]["roc_auc"]
    return auc


def _digests(runs: list[Ran]) -> Figure:
    """Whether all runs made the same bytes, with and without Prefect and DVC."""
    digests = {ran.digest[:12] for ran in runs}
    said = f"{len(runs)} runs: {', '.join(sorted(digests))}"
    return Figure("bundle digest, each from empty caches", said, "equal", len(digests) == 1)
