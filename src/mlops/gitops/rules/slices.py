"""No slice below its limit, and none surely worse than the champion's by the margin."""

from __future__ import annotations

from collections.abc import Iterator

from mlops.gitops.comparison import Case
from mlops.gitops.verdict import Compared, Rule, limit_rule


def judge(case: Case) -> Iterator[Rule]:
    """The failures, or one answer that says how many slices were judged."""
    answers = [answer for part in case.slices for answer in _judge_slice(part, case)]
    failures = [answer for answer in answers if not answer.passed]
    # One outcome alone, as in few rows, says nothing of a model.
    undefined = sum(part.candidate is None for part in case.slices)
    judged = f"{len(case.slices) - undefined} judged"
    judged += f", {undefined} undefined" if undefined else ""
    few = sum(bool(part.few) for part in case.slices if part.candidate is not None)
    judged += f", {few} too few to compare" if few else ""
    good = Rule(name="slices", found=judged, limit="every one good", passed=True)
    yield from failures or [good]


def _judge_slice(part: Compared, case: Case) -> Iterator[Rule]:
    gate, name = case.params.gate, f"{case.main.name} of {part.name}"
    if part.candidate is None:
        return
    if gate.slice_limit is not None:
        yield limit_rule(name, part.candidate, gate.slice_limit, part.less_is_better)
    if part.best is not None:
        yield Rule(
            name=name,
            found=part.change,
            limit=f"not surely worse by {gate.slice_margin:g}",
            passed=part.best >= -gate.slice_margin,
            why=f"collapsed: {part.champion:.4f} before, {part.candidate:.4f} now",
        )
