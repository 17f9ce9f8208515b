"""The gate: a candidate against the champion that Git pins. On by default; it fails closed."""

from __future__ import annotations

from pathlib import Path

from mlops.base.errors import Refused, UserError
from mlops.contract import bundle
from mlops.contract.paths import BUNDLE
from mlops.forge import git
from mlops.gitops import comparison, gate_inputs, pins, rules
from mlops.gitops.gate_inputs import Candidate, Champion
from mlops.gitops.params import Params
from mlops.gitops.verdict import Rule, Verdict

NO_CHAMPION = "none yet: the limits alone decide"


def run(params: Params, root: Path, base: str) -> Verdict:
    """Judge the workspace's bundle and write the verdict; raises Refused unless it is accepted."""
    verdict = judge(params, root, base)
    verdict.save(root)
    if not verdict.accepted:
        raise Refused(verdict.line)
    return verdict


def judge(params: Params, root: Path, base: str) -> Verdict:
    """Ask every rule. Whatever goes wrong on the way is a refusal, with its reason."""
    candidate, champion, what = None, None, "pins"
    try:
        moved = tuple(pins.rules(root, base, _digest(root)))
        if pins.only(root, base):
            return _of_pins(moved, git.commit(root, base))
        what = "candidate"
        candidate = gate_inputs.candidate(params, root)
        what = "champion"
        champion = gate_inputs.champion(candidate, root, base)
        what = "scores"
        return decide(params, candidate, champion, git.commit(root, base), moved)
    except Exception as error:
        digest = candidate.digest if candidate else _digest(root)
        return _unusable(what, error, digest, champion, base)


def decide(
    params: Params,
    candidate: Candidate,
    champion: Champion | None,
    base: str,
    moved: tuple[Rule, ...] = (),
) -> Verdict:
    """The verdict on two that are scored, and on pins that were moved.

    Raises ValueError for scores that are not numbers.
    """
    case = comparison.case(params, candidate, champion)
    asked = (*rules.asked(case), *moved)
    return Verdict(
        accepted=bool(asked) and all(rule.passed for rule in asked),
        candidate=candidate.digest,
        evidence=candidate.evidence,
        champion=champion.digest if champion else None,
        champion_by=champion.by if champion else NO_CHAMPION,
        base=base,
        rules=asked,
        metrics=case.metrics,
        slices=case.slices,
    )


def _of_pins(moved: tuple[Rule, ...], base: str) -> Verdict:
    """The verdict on a branch that only moves pins: a promotion, or a way back."""
    return Verdict(
        accepted=all(rule.passed for rule in moved),
        candidate="",
        evidence="",
        champion=None,
        champion_by="not asked: only pins change",
        base=base,
        rules=moved,
    )


def _digest(root: Path) -> str:
    try:
        return bundle.digest(root / BUNDLE)
    except OSError:
        return ""


def _unusable(
    what: str, error: Exception, digest: str, champion: Champion | None, base: str
) -> Verdict:
    """A refusal because one of the two, or its scores, can't be judged."""
    reason = " ".join(str(error).split()) or type(error).__name__
    if not isinstance(error, UserError):
        reason = f"{type(error).__name__}: {reason}"
    rule = Rule(name=what, found="not usable", limit="usable", passed=False, why=reason)
    return Verdict(
        accepted=False,
        candidate=digest,
        evidence="",
        champion=champion.digest if champion else None,
        champion_by=champion.by if champion else "not known",
        base=base,
        rules=(rule,),
    )
