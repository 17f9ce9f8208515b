"""The search against FLAML and against default LightGBM: same features, threads and seconds.

For every seed, `tune` and `train` run as the commands they are, and FLAML is given as many
seconds as `tune` took as a whole process. OpenMP's threads wait in the same way on all sides
(`OMP_WAIT_POLICY`, which `mlops.training.families` sets when it is imported).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from statistics import mean

from benchmarks.figure import Figure, at_least, progress
from benchmarks.workspace import Workspace, workspace

# By how much of a ROC AUC the mean on the validation periods may lie below FLAML's.
MARGIN = 0.003
SEEDS = (1, 2, 3)

Scores = dict[str, dict[str, float]]


def measure() -> Iterator[Figure]:
    """Differences of mean ROC AUC over the seeds, ours less the rival's."""
    with workspace() as place:
        progress("search: ingest and featurize")
        place.module("mlops.data.ingest")
        place.module("mlops.data.featurize")
        turns = [_turn(place, seed) for seed in SEEDS]
    yield _lead("search less FLAML, validation ROC AUC", turns, "flaml", "validation", -MARGIN)
    yield _lead("search less FLAML, holdout ROC AUC", turns, "flaml", "holdout", 0)
    yield _lead("search less LightGBM, holdout ROC AUC", turns, "lightgbm", "holdout", 0)


def _turn(place: Workspace, seed: int) -> Scores:
    """The scores of all sides with one seed."""
    place.change({"seed": seed})
    progress(f"search: tune and train, seed {seed}")
    seconds = place.module("mlops.training.tune").seconds
    place.module("mlops.training.train")
    scores: Scores = {}
    for rival in (("ours",), ("flaml", f"{seconds:.0f}"), ("lightgbm",)):
        progress(f"search: {' '.join(rival)}, seed {seed}")
        ended = place.module("benchmarks.rivals", *rival)
        scores[rival[0]] = json.loads(ended.out.splitlines()[-1])
        progress(f"search: {scores[rival[0]]}")
    return scores


def _lead(name: str, turns: list[Scores], rival: str, part: str, least: float) -> Figure:
    ours, theirs = (mean(turn[side][part] for turn in turns) for side in ("ours", rival))
    return at_least(name, ours - theirs, least, f"{ours:.4f} - {theirs:.4f}", digits=4)
