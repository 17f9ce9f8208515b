"""Candidate and champion on the same rows: every metric on all of them, the main one by slice."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from mlops.contract.bundle import Array
from mlops.evaluation import metrics, own_metrics
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
    pair = _Pair(candidate, champion, params.seed)
    all_rows = np.ones(len(candidate.outcome), dtype=bool)
    everywhere = pair.compared(all_rows, params.gate.draws, _own(params))
    return Case(params, candidate, champion, tuple(everywhere), tuple(_slices(params, pair)))


def _own(params: Params) -> tuple[OwnMetric, ...]:
    """The project's own metrics: those of the evaluation, and those that have a limit alone."""
    limited = [name for name in params.gate.limits if "." in name]
    return (
        *own_metrics.load(params.evaluate.metrics, "params.yaml: evaluate.metrics"),
        *own_metrics.load(
            (name for name in limited if name not in params.evaluate.metrics),
            "params.yaml: gate.limits",
        ),
    )


@dataclass(frozen=True)
class _Pair:
    candidate: Candidate
    champion: Champion | None
    seed: int

    def compared(
        self, rows: Array, draws: int, own: Sequence[OwnMetric] = ()
    ) -> Iterator[Compared]:
        """Both models' metrics on some rows, with the interval of the difference."""
        task, outcome = self.candidate.card.task, self.candidate.outcome[rows]
        ours = self.candidate.prediction[rows], self.candidate.card.threshold
        values, reference, change = metrics.score(task, outcome, *ours, own), {}, {}
        if self.champion:
            theirs = self.champion.prediction[rows], self.champion.card.threshold
            reference = metrics.score(task, outcome, *theirs, own)
            change = metrics.paired_intervals(
                task, outcome, ours, theirs, draws=draws, seed=self.seed, own=own
            )
        for name, value in values.items():
            interval = change.get(name)
            yield Compared(
                name=name,
                rows=len(outcome),
                candidate=_defined(value),
                champion=_defined(reference.get(name)),
                difference=_defined(interval.value) if interval else None,
                low=_defined(interval.low) if interval else None,
                high=_defined(interval.high) if interval else None,
                less_is_better=metrics.less_is_better(name, own),
            )


def _slices(params: Params, pair: _Pair) -> Iterator[Compared]:
    """The main metric in every slice that is large enough, sorted by the slice's value."""
    candidate = pair.candidate
    main, _ = metrics.main_metric(candidate.card.task)
    for column in candidate.spec.slices:
        values = candidate.holdout[column].astype(str)
        for value, rows in sorted(values.value_counts().items()):
            if rows < params.gate.slice_rows:
                continue
            for metric in pair.compared((values == value).to_numpy(), SLICE_DRAWS):
                if metric.name == main:
                    yield metric.model_copy(update={"name": f"{column} {value}"})


def _defined(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else value
