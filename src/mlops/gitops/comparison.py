"""Candidate and champion on the same rows: every metric, everywhere and in each slice."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from mlops.evaluation.metrics import Interval, main_metric, paired_intervals, score
from mlops.gitops.gate_inputs import Array, Candidate, Champion
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


def case(params: Params, candidate: Candidate, champion: Champion | None) -> Case:
    """Compare the two; raises ValueError for scores that are not numbers."""
    everywhere = np.ones(len(candidate.outcome), dtype=bool)
    metrics = _compared("", candidate, champion, everywhere, params.gate.draws, params.seed)
    return Case(params, candidate, champion, metrics, tuple(_slices(params, candidate, champion)))


def _slices(params: Params, candidate: Candidate, champion: Champion | None) -> Iterator[Compared]:
    """The main metric in every slice that is large enough, smallest slice values first."""
    main, _ = main_metric(candidate.card.task)
    for column in candidate.spec.slices:
        values = candidate.holdout[column].astype(str)
        for value, rows in sorted(values.value_counts().items()):
            if rows < params.gate.slice_rows:
                continue
            inside = (values == value).to_numpy()
            compared = _compared(
                f"{column} {value}", candidate, champion, inside, SLICE_DRAWS, params.seed, main
            )
            yield from compared


def _compared(
    where: str,
    candidate: Candidate,
    champion: Champion | None,
    rows: Array,
    draws: int,
    seed: int,
    only: str = "",
) -> tuple[Compared, ...]:
    """Both models' metrics on some rows, with the interval of the difference."""
    task, outcome = candidate.card.task, candidate.outcome[rows]
    ours = candidate.prediction[rows], candidate.card.threshold
    found = score(task, outcome, *ours)
    names = [only] if only else list(found)
    if champion is None:
        return tuple(
            Compared(name=where or name, rows=len(outcome), candidate=_number(found[name]))
            for name in names
        )
    theirs = champion.prediction[rows], champion.card.threshold
    before = score(task, outcome, *theirs)
    change = paired_intervals(task, outcome, ours, theirs, draws=draws, seed=seed)
    return tuple(
        Compared(
            name=where or name,
            rows=len(outcome),
            candidate=_number(found[name]),
            champion=_number(before[name]),
            **_bounds(change[name]),
        )
        for name in names
    )


def _bounds(interval: Interval) -> dict[str, float | None]:
    return {
        "difference": _number(interval.value),
        "low": _number(interval.low),
        "high": _number(interval.high),
    }


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value
