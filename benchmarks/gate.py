"""The gate's time on the whole holdout, with two real models and all rules.

The first model becomes the champion by the project's own verbs; the second is trained with another
seed. The gate is a whole process, the fetch of the champion from the registry included.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from statistics import median
from typing import Any

from benchmarks.figure import Figure, at_most, progress, ratio
from benchmarks.workspace import Workspace, workspace
from mlops.contract.paths import LOG
from mlops.contract.stages import MODULES

RUNS = 3
# The second model is the search's winner, fitted with this seed.
SEED = 7


def measure() -> Iterator[Figure]:
    """The gate's seconds, and its share of the tuning time."""
    with workspace() as place:
        progress("gate: the flow makes the first model")
        place.module("flows", "training")
        tuned = [ran["seconds"] for ran in _executed(place) if ran["stage"] == "tune"]
        progress("gate: the first model becomes the champion")
        _release_to_production(place)
        progress("gate: training the challenger")
        place.change({"seed": SEED})
        for stage in ("train", "evaluate"):
            place.module(MODULES[stage])
        # The search is not made anew; the gate asks that dvc.lock is of what lies there.
        place.module("dvc", "commit", "--quiet", "--force")
        progress("gate: judging")
        turns = [place.mlops("gate").seconds for _ in range(RUNS)]
    yield at_most("gate, both models, whole holdout, s", median(turns), 15, f"{len(turns)} runs")
    share, spread = ratio(turns, tuned)
    yield at_most("gate / tune", share, 0.25, spread)


def _executed(place: Workspace) -> list[dict[str, Any]]:
    """The stages that ran, as their log has them."""
    lines = (place.root / LOG).read_text().splitlines()
    return [json.loads(line) for line in lines]


def _release_to_production(place: Workspace) -> None:
    """Release, deploy to staging, promote: every pull request merged at once."""
    place.mlops("gate")
    place.mlops("release", "staging")
    # Not a merge: the flow may have changed dvc.lock, which the proposal has too.
    place.git("reset", "-q", "--hard", "release/staging")
    place.mlops("reconcile", "staging")
    place.mlops("promote", "staging", "production")
    place.git("reset", "-q", "--hard", "promote/production")
