"""The whole interval of the difference to the champion must lie above -margin."""

from __future__ import annotations

from collections.abc import Iterator

from mlops.gitops.comparison import Case
from mlops.gitops.verdict import Rule


def judge(case: Case) -> Iterator[Rule]:
    """The main metric against the champion's on the same rows."""
    if case.champion is None:
        yield Rule(name="champion", found="none yet", limit="none", passed=True)
        return
    margin, worst = case.params.gate.margin, case.main.worst
    passed = worst is not None and worst >= -margin
    yield Rule(
        name=f"{case.main.name} against the champion",
        found=case.main.change,
        limit=f"no worse than {margin:g}, surely",
        passed=passed,
        why="may be worse than the champion by more than the margin",
    )
