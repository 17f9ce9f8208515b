"""The gate: a candidate against the champion that Git pins. On by default; it fails closed."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mlops.core import bundle, dataset
from mlops.core.errors import Refused, UserError, nearest
from mlops.core.metrics import ERRORS, Interval, main_metric, paired_intervals, score
from mlops.core.params import Params
from mlops.core.paths import BUNDLE
from mlops.gitops import contest, git
from mlops.gitops.contest import Array, Candidate, Champion
from mlops.gitops.verdict import Compared, Rule, Verdict

LATENCY_ROWS = 500
SLICE_DRAWS = 60


@dataclass(frozen=True)
class Case:
    """What every rule looks at."""

    params: Params
    candidate: Candidate
    champion: Champion | None
    metrics: tuple[Compared, ...]
    slices: tuple[Compared, ...]


def run(params: Params, root: Path, base: str) -> Verdict:
    """Judge the workspace's bundle and write the verdict; raises Refused unless it is accepted."""
    verdict = judge(params, root, base)
    verdict.save(root)
    if not verdict.accepted:
        raise Refused(verdict.line)
    return verdict


def judge(params: Params, root: Path, base: str) -> Verdict:
    """Ask every rule. Whatever goes wrong on the way is a refusal, with its reason."""
    digest, evidence, champion = "", "", None
    try:
        candidate = contest.candidate(params, root)
        digest, evidence = candidate.digest, candidate.evidence
    except Exception as error:
        return _refused("candidate", error, _digest(root), evidence, base)
    try:
        champion = contest.champion(candidate, params, root, base)
    except Exception as error:
        return _refused("champion", error, digest, evidence, base)
    try:
        case = _case(params, candidate, champion)
    except Exception as error:
        return _refused("scores", error, digest, evidence, base, champion)
    rules = tuple(rule for ask in RULES for rule in _closed(ask, case))
    return Verdict(
        accepted=all(rule.passed for rule in rules),
        candidate=digest,
        evidence=evidence,
        champion=champion.digest if champion else None,
        champion_by=champion.by if champion else "none yet: the limits alone decide",
        base=git.commit(root, base),
        rules=rules,
        metrics=case.metrics,
        slices=case.slices,
    )


def _digest(root: Path) -> str:
    try:
        return bundle.digest(root / BUNDLE)
    except OSError:
        return ""


def _refused(
    what: str,
    error: Exception,
    digest: str,
    evidence: str,
    base: str,
    champion: Champion | None = None,
) -> Verdict:
    reason = " ".join(str(error).split()) or type(error).__name__
    if not isinstance(error, UserError):
        reason = f"{type(error).__name__}: {reason}"
    rule = Rule(name=what, found="not usable", limit="usable", passed=False, why=reason)
    return Verdict(
        accepted=False,
        candidate=digest,
        evidence=evidence,
        champion=champion.digest if champion else None,
        champion_by=champion.by if champion else "not known",
        base=base,
        rules=(rule,),
    )


def _closed(ask: Callable[[Case], Iterator[Rule]], case: Case) -> list[Rule]:
    """A rule's answers; one that breaks has refused."""
    try:
        return list(ask(case))
    except Exception as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        name = ask.__name__.replace("_", " ")
        return [Rule(name=name, found="an error", limit="an answer", passed=False, why=reason)]


def _case(params: Params, candidate: Candidate, champion: Champion | None) -> Case:
    everywhere = np.ones(len(candidate.outcome), dtype=bool)
    metrics = _compared("", candidate, champion, everywhere, params.gate.draws, params.seed)
    return Case(params, candidate, champion, metrics, tuple(_slices(params, candidate, champion)))


def _slices(params: Params, candidate: Candidate, champion: Champion | None) -> Iterator[Compared]:
    """The main metric in every slice that is large enough, smallest slice values first."""
    main, _ = main_metric(candidate.card.task)
    for column in candidate.spec.slices:
        values = candidate.holdout[column].astype(str)
        for value, rows in sorted(values.value_counts().items()):
            if rows < params.gate.slice_rows:
                continue
            inside = (values == value).to_numpy()
            compared = _compared(
                f"{column} {value}", candidate, champion, inside, SLICE_DRAWS, params.seed, main
            )
            yield from compared


def _compared(
    where: str,
    candidate: Candidate,
    champion: Champion | None,
    rows: Array,
    draws: int,
    seed: int,
    only: str = "",
) -> tuple[Compared, ...]:
    """Both models' metrics on some rows, with the interval of the difference."""
    task, outcome = candidate.card.task, candidate.outcome[rows]
    ours = candidate.prediction[rows], candidate.card.threshold
    found = score(task, outcome, *ours)
    names = [only] if only else list(found)
    if champion is None:
        return tuple(
            Compared(name=where or name, rows=len(outcome), candidate=_number(found[name]))
            for name in names
        )
    theirs = champion.prediction[rows], champion.card.threshold
    before = score(task, outcome, *theirs)
    change = paired_intervals(task, outcome, ours, theirs, draws=draws, seed=seed)
    return tuple(
        Compared(
            name=where or name,
            rows=len(outcome),
            candidate=_number(found[name]),
            champion=_number(before[name]),
            **_bounds(change[name]),
        )
        for name in names
    )


def _bounds(interval: Interval) -> dict[str, float | None]:
    return {
        "difference": _number(interval.value),
        "low": _number(interval.low),
        "high": _number(interval.high),
    }


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value


def limits(case: Case) -> Iterator[Rule]:
    """Absolute limits on the holdout, champion or not."""
    found = {compared.name: compared.candidate for compared in case.metrics}
    for name, limit in case.params.gate.limits.items():
        if name not in found:
            raise UserError(f"params.yaml: gate.limits: {name}: no metric{nearest(name, found)}")
        yield _limit(name, found[name], limit, name)


def _limit(rule: str, value: float | None, limit: float, metric: str) -> Rule:
    less = metric in ERRORS
    value = abs(value) if value is not None and metric == "bias" else value
    passed = value is not None and (value <= limit if less else value >= limit)
    return Rule(
        name=rule,
        found="undefined" if value is None else f"{value:.4f}",
        limit=f"at {'most' if less else 'least'} {limit:g}",
        passed=passed,
        why="" if passed else f"{'above' if less else 'below'} the limit of params.yaml",
    )


def not_worse_than_the_champion(case: Case) -> Iterator[Rule]:
    """The whole interval of the difference must lie above -margin."""
    if case.champion is None:
        return
    name, _ = main_metric(case.candidate.card.task)
    main = next(compared for compared in case.metrics if compared.name == name)
    worst = _worst(main, name)
    margin = case.params.gate.margin
    passed = worst is not None and worst >= -margin
    yield Rule(
        name=f"{name} against the champion",
        found=f"{_signed(main.difference)} ({_signed(main.low)} to {_signed(main.high)})",
        limit=f"no worse than {margin:g}, surely",
        passed=passed,
        why="" if passed else "may be worse than the champion by more than the margin",
    )


def every_slice(case: Case) -> Iterator[Rule]:
    """No slice below its limit, and none surely worse than the champion's by the margin."""
    gate, (name, _) = case.params.gate, main_metric(case.candidate.card.task)
    for part in case.slices:
        if gate.slice_limit is not None:
            rule = _limit(f"{name} of {part.name}", part.candidate, gate.slice_limit, name)
            if not rule.passed:
                yield rule
        best = _best(part, name)
        if case.champion and best is not None and best < -gate.slice_margin:
            yield Rule(
                name=f"{name} of {part.name}",
                found=f"{_signed(part.difference)} ({_signed(part.low)} to {_signed(part.high)})",
                limit=f"not surely worse than {gate.slice_margin:g}",
                passed=False,
                why=f"collapsed: {part.champion:.4f} before, {part.candidate:.4f} now",
            )
    yield Rule(name="slices", found=f"{len(case.slices)} judged", limit="every one", passed=True)


def latency(case: Case) -> Iterator[Rule]:
    """One row at a time through ONNX Runtime, 99th percentile in milliseconds."""
    session, limit = case.candidate.scorer.session, case.params.gate.latency_ms
    frame = dataset.inputs(case.candidate.holdout.head(LATENCY_ROWS), case.candidate.spec)
    columns = bundle.feeds(session, frame)
    taken = []
    for row in range(len(frame)):
        one = {name: values[row : row + 1] for name, values in columns.items()}
        start = time.perf_counter()
        session.run(None, one)
        taken.append(time.perf_counter() - start)
    found = float(np.percentile(taken, 99)) * 1000
    yield _measured("latency, one row, 99 %", found, limit, "ms")


def size(case: Case) -> Iterator[Rule]:
    """What every start of a service has to load."""
    yield _measured("model.onnx", case.candidate.size / 1e6, case.params.gate.size_mb, "MB")


def _measured(name: str, found: float, limit: float, unit: str) -> Rule:
    return Rule(
        name=name,
        found=f"{found:.2f} {unit}",
        limit=f"at most {limit:g} {unit}",
        passed=found <= limit,
        why="" if found <= limit else "above the limit of params.yaml",
    )


def _worst(compared: Compared, metric: str) -> float | None:
    """The end of the interval that is worst for the candidate, negative when it is worse."""
    if metric in ERRORS:
        return None if compared.high is None else -compared.high
    return compared.low


def _best(compared: Compared, metric: str) -> float | None:
    if metric in ERRORS:
        return None if compared.low is None else -compared.low
    return compared.high


def _signed(value: float | None) -> str:
    return "undefined" if value is None else f"{value:+.4f}"


RULES: tuple[Callable[[Case], Iterator[Rule]], ...] = (
    limits,
    not_worse_than_the_champion,
    every_slice,
    latency,
    size,
)
