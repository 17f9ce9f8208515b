"""The gate: a candidate against the champion that Git pins. On by default; it fails closed."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from mlops.base.errors import Refused, UserError
from mlops.contract import bundle, extensions
from mlops.contract.params import load_all
from mlops.contract.paths import BUNDLE
from mlops.forge import git
from mlops.gitops import base_gate, comparison, gate_inputs, pin_rules, pins, workspace_pin
from mlops.gitops.comparison import Case
from mlops.gitops.gate_inputs import Candidate, Champion
from mlops.gitops.params import Params
from mlops.gitops.verdict import Rule, Verdict

NO_CHAMPION = "none yet: the limits alone decide"


def run(params: Params, root: Path, base: str) -> Verdict:
    """Judge the workspace's bundle and write the verdict; raises Refused unless it is accepted.

    A branch that changes its own judge is judged by the base's gate too, which decides nothing.
    """
    verdict = judge(params, root, base)
    judges = base_gate.changed(root, base) if git.exists(root, base) else []
    if judges and verdict.candidate:
        by_base = base_gate.verdict(root, base)
        verdict = verdict.model_copy(update={"judges": tuple(judges), "by_base": by_base})
    verdict.save(root)
    if not verdict.accepted:
        raise Refused(verdict.line)
    return verdict


def judge(params: Params, root: Path, base: str) -> Verdict:
    """Apply every rule to the workspace's bundle. Any error on the way is a refusal."""
    candidate, champion, subject = None, None, "pins"
    try:
        moved = tuple(pin_rules.rules(root, base, _digest(root)))
        if pins.only_known_pins_changed(root, base):
            by = "not asked: only pins change"
            return _verdict(git.commit(root, base), moved, champion_by=by)
        subject = "candidate"
        candidate = gate_inputs.candidate(params, root)
        workspace_pin.require_current(root)
        subject = "champion"
        champion = gate_inputs.champion(candidate, root, base)
        subject = "scores"
        return decide(params, candidate, champion, git.commit(root, base), moved)
    except Exception as error:
        return _verdict(
            base,
            (_failure(subject, "not usable", "usable", error),),
            candidate=candidate.digest if candidate else _digest(root),
            champion=champion.digest if champion else None,
            champion_by=champion.by if champion else "not known",
        )


def decide(
    params: Params,
    candidate: Candidate,
    champion: Champion | None,
    base: str,
    moved: tuple[Rule, ...] = (),
) -> Verdict:
    """The verdict on a scored candidate, and on pins that the branch moved.

    Raises ValueError for scores that are not numbers.
    """
    case = comparison.compare(params, candidate, champion)
    return _verdict(
        base,
        (*_answers(case), *moved),
        candidate=candidate.digest,
        evidence=candidate.evidence,
        champion=champion.digest if champion else None,
        champion_by=champion.by if champion else NO_CHAMPION,
        metrics=case.metrics,
        slices=case.slices,
    )


def _verdict(base: str, rules: tuple[Rule, ...], **known: Any) -> Verdict:
    accepted = bool(rules) and all(rule.passed for rule in rules)
    return Verdict(accepted=accepted, base=base, rules=rules, **known)


def _answers(case: Case) -> list[Rule]:
    """The answers of the rules that `gate.rules` names, in order; no rule is no acceptance."""
    if not case.params.gate.rules:
        reason = "params.yaml: gate.rules: found [], expected at least one rule"
        return [Rule(name="rules", found="none", limit="at least one", passed=False, why=reason)]
    return [answer for name in case.params.gate.rules for answer in _answers_of(name, case)]


def rule(name: str) -> ModuleType:
    """The module of a rule: a built-in name, or a module's path. Raises UserError."""
    return extensions.resolve("params.yaml: gate.rules", name, "mlops.gitops.rules", ("judge",))


def _answers_of(name: str, case: Case) -> list[Rule]:
    """One rule's answers; a rule that raises an error or answers nothing counts as failed."""
    try:
        answers = list(rule(name).judge(case))
        if not answers:
            raise UserError("it has judged nothing")
        return answers
    except Exception as error:
        return [_failure(name, "an error", "an answer", error)]


def _failure(name: str, found: str, limit: str, error: Exception) -> Rule:
    reason = " ".join(str(error).split())
    if not isinstance(error, UserError):
        reason = f"{type(error).__name__}: {reason}" if reason else type(error).__name__
    return Rule(name=name, found=found, limit=limit, passed=False, why=reason)


def _digest(root: Path) -> str:
    """The digest of the workspace's bundle; "" without one."""
    try:
        return bundle.digest(root / BUNDLE) if (root / BUNDLE).is_dir() else ""
    except OSError:
        return ""


def main(commit: str) -> None:
    """Print the verdict on the workspace's bundle as JSON, by the `gate:` of a commit."""
    root = Path()
    settings = load_all(root)
    gate = type(settings.gate).model_validate(base_gate.settings(root, commit), strict=False)
    verdict = judge(settings.model_copy(update={"gate": gate}), root, commit)
    print(json.dumps(verdict.model_dump(mode="json")))


if __name__ == "__main__":
    main(sys.argv[1])
