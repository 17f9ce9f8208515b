"""The interval of the difference to the champion must lie above -margin, or else reach 0."""

from __future__ import annotations

from collections.abc import Iterator

from mlops.gitops.comparison import Case
from mlops.gitops.verdict import Rule


def judge(case: Case) -> Iterator[Rule]:
    """The main metric against the champion's on the same rows."""
    if case.champion is None:
        yield Rule(name="champion", found="none yet", limit="none", passed=True)
        return
    margin, main = case.params.gate.margin, case.main
    if main.few:
        yield Rule(
            name=f"{main.name} against the champion",
            found=f"too few to judge ({main.few})",
            limit="enough, or gate.too_few: accept",
            passed=case.params.gate.too_few == "accept",
            why="no interval is right for so few: hold out more rows",
        )
        return
    if margin is None:
        passed = main.best is not None and main.best >= 0
        limit, why = "not surely worse", "surely worse than the champion"
    else:
        passed = main.worst is not None and main.worst >= -margin
        limit = f"no worse than {margin:g}, surely"
        why = "may be worse than the champion by more than the margin"
    yield Rule(
        name=f"{main.name} against the champion",
        found=main.change,
        limit=limit,
        passed=passed,
        why=why,
    )
