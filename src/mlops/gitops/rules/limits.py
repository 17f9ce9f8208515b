"""Metrics at least at their limit, or at most where less is better, champion or not."""

from __future__ import annotations

from collections.abc import Iterator

from mlops.base.errors import UserError, nearest
from mlops.gitops.comparison import Case
from mlops.gitops.verdict import Rule, limit_rule


def judge(case: Case) -> Iterator[Rule]:
    """One answer for each limit. Raises UserError for a limit on an unknown metric."""
    metrics = {metric.name: metric for metric in case.metrics}
    limits = case.params.gate.limits
    for name, limit in limits.items():
        if name not in metrics:
            raise UserError(f"params.yaml: gate.limits: {name}: no metric{nearest(name, metrics)}")
        metric = metrics[name]
        value = metric.candidate
        # A bias is an error in either direction.
        value = abs(value) if value is not None and name == "bias" else value
        yield limit_rule(name, value, limit, metric.less_is_better)
    if not limits:
        yield Rule(name="limits", found="none set", limit="none", passed=True)
