"""Candidate and champion on the same rows: every metric on all of them, the main one by slice."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from mlops.contract import dataset
from mlops.contract.bundle import Array
from mlops.evaluation import bounds, metrics, own_metrics
from mlops.evaluation.own_metrics import OwnMetric
from mlops.gitops.gate_inputs import Candidate, Champion
from mlops.gitops.params import Params
from mlops.gitops.verdict import Compared

SLICE_DRAWS = 60


@dataclass(frozen=True)
class Case:
    """What every rule looks at."""

    params: Params
    candidate: Candidate
    champion: Champion | None
    metrics: tuple[Compared, ...]
    slices: tuple[Compared, ...]

    @property
    def main(self) -> Compared:
        """The metric that ranks models of this task."""
        name, _ = metrics.main_metric(self.candidate.card.task)
        return next(metric for metric in self.metrics if metric.name == name)


def compare(params: Params, candidate: Candidate, champion: Champion | None) -> Case:
    """Score both models on the holdout; raises ValueError for scores that are not numbers."""
    evaluated = params.evaluate.metrics
    limits = params.gate.limits or ()
    limited = [name for name in limits if "." in name and name not in evaluated]
    own = (
        *own_metrics.load(evaluated, "params.yaml: evaluate.metrics"),
        *own_metrics.load(limited, "params.yaml: gate.limits"),
    )
    rows = np.ones(len(candidate.outcome), dtype=bool)
    everywhere = _compared(candidate, champion, rows, params.gate.draws, params.seed, own)
    slices = _slices(params, candidate, champion)
    return Case(params, candidate, champion, tuple(everywhere), tuple(slices))


def _compared(
    candidate: Candidate, champion: Champion | None, rows: Array, draws: int, seed: int,
    own: Sequence[OwnMetric] = (),
) -> Iterator[Compared]:  # fmt: skip
    """Both models' metrics on some rows, with the interval of the difference."""
    task, outcome = candidate.card.task, candidate.outcome[rows]
    ours = candidate.prediction[rows], candidate.card.threshold
    values, reference, change = metrics.score(task, outcome, *ours, own), {}, {}
    clusters, few = dataset.clusters(candidate.holdout[rows], candidate.spec), ""
    if champion:
        theirs = champion.prediction[rows], champion.card.threshold
        reference = metrics.score(task, outcome, *theirs, own)
        change = metrics.paired_intervals(
            task, outcome, ours, theirs, clusters=clusters, draws=draws, seed=seed, own=own
        )
        few = bounds.support(task, outcome, [ours, theirs], clusters).few
    for name, value in values.items():
        interval = change.get(name)
        change_of = (interval.value, interval.low, interval.high) if interval else (None,) * 3
        difference, low, high = map(_defined, change_of)
        yield Compared(
            name=name,
            rows=len(outcome),
            candidate=_defined(value),
            champion=_defined(reference.get(name)),
            difference=difference,
            low=low,
            high=high,
            less_is_better=metrics.less_is_better(name, own),
            few=few,
        )


def _slices(params: Params, candidate: Candidate, champion: Champion | None) -> Iterator[Compared]:
    """The main metric in every slice that is large enough, sorted by the slice's value."""
    main, _ = metrics.main_metric(candidate.card.task)
    for column in candidate.spec.slices:
        values = candidate.holdout[column].astype(str)
        for value, count in sorted(values.value_counts().items()):
            if count >= params.gate.slice_rows:
                rows = (values == value).to_numpy()
                for metric in _compared(candidate, champion, rows, SLICE_DRAWS, params.seed):
                    if metric.name == main:
                        yield metric.model_copy(update={"name": f"{column} {value}"})


def _defined(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else value
