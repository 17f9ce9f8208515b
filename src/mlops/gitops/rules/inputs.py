"""Clients of the champion can go on as they are, or the manifest says why not."""

from __future__ import annotations

from collections.abc import Iterator

from mlops.deploy import inputs
from mlops.gitops.comparison import Case
from mlops.gitops.verdict import Rule


def judge(case: Case) -> Iterator[Rule]:
    """What the candidate refuses, or answers otherwise, of what the champion answers."""
    champion = case.champion
    changes = tuple(inputs.breaking(champion.card, case.candidate.card)) if champion else ()
    reason = champion.breaking if champion else None
    yield Rule(
        name="inputs",
        found="; ".join(changes) or ("none yet" if champion is None else "as the champion's"),
        limit=f"changed: {reason}" if reason else "what clients of the champion send",
        passed=not changes or reason is not None,
        why="declare OPTIONAL or RETIRED columns, or say why in the manifest's `breaking`"
        if changes and not reason
        else "",
    )
