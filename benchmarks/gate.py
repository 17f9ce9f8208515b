"""The gate's time on the whole holdout, with two real models and all rules.

The first model becomes the champion by the project's own verbs; the second is trained with another
seed. The gate is a whole process, the fetch of the champion from the registry included.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from statistics import median
from typing import Any

from benchmarks import process
from benchmarks.figure import Figure, Plan, at_most, progress, ratio
from benchmarks.process import Ended
from benchmarks.workspace import BIN, Workspace, workspace
from mlops.contract.paths import LOG
from mlops.contract.stages import MODULES

AUTHOR = ("-c", "user.name=benchmark", "-c", "user.email=benchmark@localhost")
# The second model is the search's winner, fitted with this seed.
SEED = 7


def measure(plan: Plan) -> Iterator[Figure]:
    """The gate's seconds, and its share of the tuning time."""
    with workspace(plan.changes) as place:
        progress("gate: the flow makes the first model")
        place.module("flows", "training")
        tuned = [ran["seconds"] for ran in _executed(place) if ran["stage"] == "tune"]
        progress("gate: the first model becomes the champion")
        _release_to_production(place)
        progress("gate: training the challenger")
        place.change({"seed": SEED})
        for stage in ("train", "evaluate"):
            place.module(MODULES[stage])
        progress("gate: judging")
        turns = [_mlops(place, "gate").seconds for _ in range(plan.gate_runs)]
    yield at_most("gate, both models, whole holdout, s", median(turns), 15, f"{len(turns)} runs")
    share, spread = ratio(turns, tuned)
    yield at_most("gate / tune", share, 0.25, spread)


def _executed(place: Workspace) -> list[dict[str, Any]]:
    """The stages that ran, as their log has them."""
    lines = (place.root / LOG).read_text().splitlines()
    return [json.loads(line) for line in lines]


def _release_to_production(place: Workspace) -> None:
    """Release, deploy to staging, promote: every pull request merged at once."""
    _mlops(place, "gate")
    _mlops(place, "release", "staging")
    _git(place, "merge", "-q", "release/staging")
    _mlops(place, "reconcile", "staging")
    _mlops(place, "promote", "staging", "production")
    _git(place, "merge", "-q", "promote/production")


def _mlops(place: Workspace, *words: str) -> Ended:
    return process.run([str(BIN / "mlops"), *words], place.root, place.environment)


def _git(place: Workspace, *words: str) -> None:
    process.run(["git", *AUTHOR, *words], place.root, place.environment)
