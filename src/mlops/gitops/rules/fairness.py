"""The groups of a column fare alike: differences and ratios of their rates are within limits.

`gate.fairness` names columns of SLICES and, for each, measures with their limits: a rate of RATES
and `_difference` (greatest less least, at most the limit) or `_ratio` (least by greatest, at least
the limit). Groups of fewer rows than `gate.slice_rows` are left out, and said.

Sources: Hardt, Price and Srebro, Equality of Opportunity in Supervised Learning (2016); for the
ratio of selection rates, the four-fifths rule (US EEOC, Uniform Guidelines, 1978).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from mlops.base.errors import UserError, nearest
from mlops.contract import dataset
from mlops.contract.bundle import Array
from mlops.contract.project import Task
from mlops.evaluation import bounds
from mlops.gitops.comparison import Case
from mlops.gitops.params import Gate
from mlops.gitops.verdict import Rule, number

RATES: dict[Task, tuple[str, ...]] = {
    "binary": ("selection_rate", "true_positive_rate", "false_positive_rate", "accuracy"),
    "multiclass": ("accuracy",),
    "regression": ("mean_prediction", "mean_error"),
}


def require(gate: Gate, task: Task, slices: Sequence[str]) -> None:
    """Raise UserError for a limit on an unknown column or measure."""
    measures = [f"{rate}_{kind}" for rate in RATES[task] for kind in ("difference", "ratio")]
    for column, limits in gate.fairness.items():
        for kind, name, known in (
            ("column of SLICES", column, list(slices)),
            *(("measure", measure, measures) for measure in limits),
        ):
            if name not in known:
                raise UserError(
                    f"params.yaml: gate.fairness: found {name!r}, expected a {kind}: "
                    f"{', '.join(known)}{nearest(name, known)}"
                )


def judge(case: Case) -> Iterator[Rule]:
    """One answer for each limit. Raises UserError as `require` does."""
    require(case.params.gate, case.candidate.card.task, case.candidate.spec.slices)
    for column, limits in case.params.gate.fairness.items():
        for measure, limit in limits.items():
            yield _judge(case, column, measure, limit)
    if not case.params.gate.fairness:
        yield Rule(name="fairness", found="none set", limit="none", passed=True)


def _judge(case: Case, column: str, measure: str, limit: float) -> Rule:
    rate, _, kind = measure.rpartition("_")
    values = case.candidate.holdout[column].astype(str)
    sizes = values.value_counts().sort_index()
    large = [str(name) for name, rows in sizes.items() if rows >= case.params.gate.slice_rows]
    name = f"{measure} by {column}"
    expected = f"at {'most' if kind == 'difference' else 'least'} {limit:g}"
    if len(large) < 2:
        found = f"{len(large)} of {len(sizes)} groups with {case.params.gate.slice_rows} rows"
        why = "nothing to compare: hold out more rows, or lower gate.slice_rows"
        passed = case.params.gate.too_few == "accept"
        return Rule(name=name, found=found, limit=expected, passed=passed, why=why)
    groups = [(values == group).to_numpy() for group in large]
    counted, among = _counted(case, rate)
    clusters = np.unique(
        dataset.clusters(case.candidate.holdout, case.candidate.spec), return_inverse=True
    )[1]
    whole = int(clusters.max()) + 1
    support = bounds.Support(clusters, whole, whole, whole, whole, whole)

    def compared(weights: Array) -> tuple[float, list[float]]:
        rates = [_rate(counted, among & group, weights) for group in groups]
        low, high = min(rates), max(rates)
        ratio = low / high if high else math.nan
        return (high - low if kind == "difference" else ratio), rates

    value, rates = compared(np.ones(len(values)))
    draws = [
        compared(weights)[0]
        for weights in support.weights(case.params.gate.draws, case.params.seed)
    ]
    low, high = bounds.interval(measure, value, np.array(draws), whole)
    interval = "" if math.isnan(low) else f" ({number(max(low, 0.0))} to {number(high)})"
    left = f", {len(sizes) - len(large)} too small" if len(sizes) > len(large) else ""
    defined = not math.isnan(value)
    return Rule(
        name=name,
        found=f"{number(value) if defined else 'undefined'}{interval}: {_ends(large, rates)}{left}",
        limit=expected,
        passed=defined and (value <= limit if kind == "difference" else value >= limit),
        why="its groups differ by more than params.yaml allows",
    )


def _counted(case: Case, rate: str) -> tuple[Array, Array]:
    """What is averaged for a rate, and among which rows; both of shape (rows,)."""
    candidate, threshold = case.candidate, case.candidate.card.threshold
    outcome, prediction = candidate.outcome, candidate.prediction
    every = np.ones(len(outcome), dtype=bool)
    if candidate.card.task == "regression":
        return (prediction - outcome if rate == "mean_error" else prediction), every
    if candidate.card.task == "multiclass":
        return prediction.argmax(axis=1) == outcome, every
    selected = prediction >= (0.5 if threshold is None else threshold)
    if rate == "accuracy":
        return selected == outcome, every
    among = {"true_positive_rate": outcome == 1, "false_positive_rate": outcome == 0}
    return selected, among.get(rate, every)


def _rate(counted: Array, rows: Array, weights: Array) -> float:
    """The weighted mean of the rows; NaN where there are none."""
    return float(np.average(counted[rows], weights=weights[rows])) if rows.any() else math.nan


def _ends(groups: Sequence[str], rates: Sequence[float]) -> str:
    """The groups with the least and the greatest rate."""
    least, greatest = int(np.nanargmin(rates)), int(np.nanargmax(rates))
    pairs = ((groups[at], rates[at]) for at in (least, greatest))
    return ", ".join(f"{group} {number(rate)}" for group, rate in pairs)
