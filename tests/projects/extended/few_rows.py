"""A gate rule: a holdout of few rows proves nothing."""

from collections.abc import Iterator

from mlops.gitops.comparison import Case
from mlops.gitops.verdict import Rule

LEAST = 100


def judge(case: Case) -> Iterator[Rule]:
    rows = len(case.candidate.holdout)
    yield Rule(name="few rows", found=str(rows), limit=f"at least {LEAST}", passed=rows >= LEAST)
