"""Clients of the champion can go on as they are, or the manifest says why not."""

from __future__ import annotations

from collections.abc import Iterator

from mlops.deploy import inputs
from mlops.gitops.comparison import Case
from mlops.gitops.verdict import Rule


def judge(case: Case) -> Iterator[Rule]:
    """What the candidate refuses, or answers otherwise, of what the champion answers."""
    if case.champion is None:
        yield Rule(name="inputs", found="no champion yet", limit="none", passed=True)
        return
    changes = "; ".join(inputs.breaking(case.champion.card, case.candidate.card))
    reason = case.champion.breaking
    passed = not changes or reason is not None
    cure = "declare OPTIONAL or RETIRED columns, or say why in the manifest's `breaking`"
    yield Rule(
        name="inputs",
        found=changes or "as the champion's",
        limit=f"changed: {reason}" if reason else "what clients of the champion send",
        passed=passed,
        why="" if passed else cure,
    )
