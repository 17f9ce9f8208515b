"""The groups of a column fare alike: differences and ratios of their rates are within limits.

`gate.fairness` names columns of SLICES and, for each, measures with their limits: a rate of RATES
and `_difference` (greatest less least, at most the limit) or `_ratio` (least by greatest, at least
the limit). Groups of fewer rows than `gate.slice_rows` are left out, and said. A measure is
undefined, and so above any limit, where one of the groups has no rate.

Sources: Hardt, Price and Srebro, Equality of Opportunity in Supervised Learning (2016); for the
ratio of selection rates, the four-fifths rule (US EEOC, Uniform Guidelines, 1978).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from mlops.base.errors import UserError, listed, nearest
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
# Means of a regression may be negative, and then have no ratio.
KINDS: dict[Task, tuple[str, ...]] = {
    "binary": ("difference", "ratio"),
    "multiclass": ("difference", "ratio"),
    "regression": ("difference",),
}


def require(gate: Gate, task: Task, slices: Sequence[str]) -> None:
    """Raise UserError for a limit on an unknown column or measure."""
    measures = [f"{rate}_{kind}" for rate in RATES[task] for kind in KINDS[task]]
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
    gate, candidate = case.params.gate, case.candidate
    rate, _, kind = measure.rpartition("_")
    name, is_ratio = f"{measure} by {column}", kind == "ratio"
    expected = f"at {'least' if is_ratio else 'most'} {limit:g}"
    values = candidate.holdout[column].astype(str)
    sizes = values.value_counts().sort_index()
    large = [str(group) for group, rows in sizes.items() if rows >= gate.slice_rows]
    if len(large) < 2:
        return Rule(
            name=name,
            found=f"{len(large)} of {len(sizes)} groups with {gate.slice_rows} rows",
            limit=expected,
            passed=gate.too_few == "accept",
            why="nothing to compare: hold out more rows, or lower gate.slice_rows",
        )
    counted, among = _counted(case, rate)
    groups = [among & (values == group).to_numpy() for group in large]
    rates = _rates(counted, groups, np.ones(len(values)))
    value = _compared(rates, is_ratio)
    defined = not math.isnan(value)
    left = f", {len(sizes) - len(large)} too small" if len(sizes) > len(large) else ""
    interval = _interval(case, measure, value, counted, groups)
    return Rule(
        name=name,
        found=f"{number(value if defined else None)}{interval}: {_ends(large, rates)}{left}",
        limit=expected,
        passed=defined and (value >= limit if is_ratio else value <= limit),
        why="its groups differ by more than params.yaml allows"
        if defined
        else "undefined: a group has no such rows, or every rate is 0",
    )


def _compared(rates: Array, is_ratio: bool) -> float:
    """The least rate by the greatest, or the greatest less the least; NaN where undefined."""
    low, high = float(rates.min()), float(rates.max())
    if not is_ratio:
        return high - low
    return low / high if high else math.nan


def _interval(
    case: Case, measure: str, value: float, counted: Array, groups: Sequence[Array]
) -> str:
    """The 95 % interval of a measure in brackets; "" where the rows are too few for one."""
    candidate, gate = case.candidate, case.params.gate
    clusters = dataset.clusters(candidate.holdout, candidate.spec)
    # As for a regression, every cluster tells of every measure.
    support = bounds.support("regression", candidate.outcome, (), clusters)
    count = support.count(measure)
    draws = support.weights(gate.draws if count else 0, case.params.seed)
    is_ratio = measure.endswith("_ratio")
    drawn = np.array([_compared(_rates(counted, groups, weights), is_ratio) for weights in draws])
    low, high = bounds.interval(measure, value, drawn, count)
    return "" if math.isnan(low) else f" ({number(max(low, 0.0))} to {number(high)})"


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


def _rates(counted: Array, groups: Sequence[Array], weights: Array) -> Array:
    """The weighted mean of each group's rows, shape (groups,); NaN where a group has none."""
    return np.array(
        [
            np.average(counted[rows], weights=weights[rows]) if rows.any() else math.nan
            for rows in groups
        ]
    )


def _ends(groups: Sequence[str], rates: Array) -> str:
    """The groups with the least and the greatest rate, or those without one."""
    if undefined := [group for group, rate in zip(groups, rates, strict=True) if math.isnan(rate)]:
        return f"none of {listed(undefined)}"
    ends = (int(rates.argmin()), int(rates.argmax()))
    return ", ".join(f"{groups[end]} {number(float(rates[end]))}" for end in ends)
