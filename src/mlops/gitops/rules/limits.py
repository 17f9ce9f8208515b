"""Metrics at least at their limit, or at most where less is better, champion or not."""

from __future__ import annotations

from collections.abc import Iterator

from mlops.contract.project import Task
from mlops.evaluation import metrics
from mlops.gitops.comparison import Case
from mlops.gitops.params import Gate
from mlops.gitops.verdict import Rule, limit_rule

# Chance, and the mean of the target.
DEFAULTS: dict[Task, dict[str, float]] = {
    "binary": {"roc_auc": 0.5},
    "multiclass": {"roc_auc": 0.5},
    "regression": {"r2": 0.0},
}


def limits(gate: Gate, task: Task) -> dict[str, float]:
    """The limits set, or the task's own. Raises UserError for one that the task cannot have."""
    if gate.limits is None:
        return DEFAULTS[task]
    for name, limit in gate.limits.items():
        if "." not in name:
            metrics.require_limit(name, limit, task, "params.yaml: gate.limits")
    return gate.limits


def judge(case: Case) -> Iterator[Rule]:
    """One answer for each limit. Raises UserError for a limit on an unknown metric."""
    measured = {metric.name: metric for metric in case.metrics}
    chosen = limits(case.params.gate, case.candidate.card.task)
    for name, limit in chosen.items():
        metric = measured[name]
        value = metric.candidate
        # A bias is an error in either direction.
        value = abs(value) if value is not None and name == "bias" else value
        yield limit_rule(name, value, limit, metric.less_is_better)
    if not chosen:
        yield Rule(name="limits", found="none set", limit="none", passed=True)
