"""The example's search with two workers against one, and its final fit likewise.

One thread for each trial, and eight trials: those drawn at random, which are the same for any
number at once. None is given up: trials of a round then take about as long as each other. Whole
processes, so that starting the workers counts.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from benchmarks.figure import Figure, at_most, progress, ratio
from benchmarks.workspace import Workspace, workspace
from mlops.base.files import sha256
from mlops.contract import bundle, dataset
from mlops.contract.paths import BUNDLE, FEATURES, SEARCH
from mlops.contract.result import TRIALS
from mlops.training import objective
from mlops.training.searchers import RANDOM_TRIALS

WORKERS, RUNS = (1, 2), 2


def measure() -> Iterator[Figure]:
    """The time with two over the time with one, and the distance of what they predict."""
    seconds: dict[int, list[float]] = {workers: [] for workers in WORKERS}
    trials = set()
    alike = {"threads": 1, "tune.max_evals": RANDOM_TRIALS, "tune.give_up": 1e6}
    with workspace(alike) as place:
        for stage in ("ingest", "featurize"):
            progress(f"search: {stage}")
            place.module(f"mlops.data.{stage}")
        for workers in WORKERS * RUNS:
            progress(f"search: {workers} at once")
            place.change({"tune.parallelism": workers})
            seconds[workers].append(place.module("mlops.training.tune").seconds)
            trials.add(sha256(place.root / SEARCH / TRIALS)[:12])
        faster, detail = ratio(seconds[2], seconds[1])
        yield at_most("search, two workers / one", faster, 0.65, detail)
        yield Figure("trials of both", ", ".join(sorted(trials)), "equal", len(trials) == 1)
        place.change({"tune.families": ["xgboost"], "tune.max_evals": 1})
        place.module("mlops.training.tune")
        (one, loss), (two, other) = (_fitted(place, workers) for workers in WORKERS)
        yield Figure("1 - ROC AUC of one worker's fit / two's", f"{loss:.4f} / {other:.4f}")
        distance = f"{np.abs(one - two).max():.1e}, mean {np.abs(one - two).mean():.1e}"
        yield Figure("their probabilities' distance, at most", distance)


def _fitted(place: Workspace, workers: int) -> tuple[bundle.Array, float]:
    """The holdout's probabilities by the model that so many workers fit, and their loss."""
    progress(f"search: train with {workers} workers")
    place.change({"train.workers": workers})
    place.module("mlops.training.train")
    card = bundle.read_card(place.root / BUNDLE)
    rows = dataset.read(place.root / FEATURES / dataset.HOLDOUT)
    session = bundle.session((place.root / BUNDLE / bundle.MODEL).read_bytes())
    prediction = bundle.predict(session, rows[[each.name for each in card.inputs]], card.task)
    return prediction, objective.loss(card.task, rows[card.target].to_numpy(int), prediction)
