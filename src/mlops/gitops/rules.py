"""The gate's rules: each looks at the case and answers; one that breaks has refused."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from mlops.base.errors import UserError, nearest
from mlops.contract import bundle, dataset
from mlops.evaluation.metrics import ERRORS, main_metric
from mlops.gitops.comparison import Case
from mlops.gitops.gate_inputs import Array
from mlops.gitops.markdown import signed
from mlops.gitops.verdict import Compared, Rule

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

LATENCY_ROWS = 200
LATENCY_REPEATS = 5
Ask = Callable[[Case], Iterator[Rule]]


def asked(case: Case) -> Iterator[Rule]:
    """What every rule answers, in order."""
    for ask in RULES:
        yield from _closed(ask, case)


def _closed(ask: Ask, case: Case) -> list[Rule]:
    """A rule's answers; one that breaks has refused."""
    try:
        return list(ask(case))
    except Exception as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        name = ask.__name__.replace("_", " ")
        return [Rule(name=name, found="an error", limit="an answer", passed=False, why=reason)]


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
        found=_change(main),
        limit=f"no worse than {margin:g}, surely",
        passed=passed,
        why="" if passed else "may be worse than the champion by more than the margin",
    )


def every_slice(case: Case) -> Iterator[Rule]:
    """No slice below its limit, and none surely worse than the champion's by the margin."""
    failed = [rule for part in case.slices for rule in _slice(part, case) if not rule.passed]
    yield from failed
    if not failed:
        judged = f"{len(case.slices)} judged"
        yield Rule(name="slices", found=judged, limit="every one good", passed=True)


def _slice(part: Compared, case: Case) -> Iterator[Rule]:
    gate, (metric, _) = case.params.gate, main_metric(case.candidate.card.task)
    name = f"{metric} of {part.name}"
    if gate.slice_limit is not None:
        yield _limit(name, part.candidate, gate.slice_limit, metric)
    best = _best(part, metric)
    if case.champion and best is not None:
        yield Rule(
            name=name,
            found=_change(part),
            limit=f"not surely worse by {gate.slice_margin:g}",
            passed=best >= -gate.slice_margin,
            why=f"collapsed: {part.champion:.4f} before, {part.candidate:.4f} now",
        )


def latency(case: Case) -> Iterator[Rule]:
    """One row at a time through ONNX Runtime, 99th percentile over the rows in milliseconds."""
    session, limit = case.candidate.scorer.session, case.params.gate.latency_ms
    frame = dataset.inputs(case.candidate.holdout.head(LATENCY_ROWS), case.candidate.spec)
    columns = bundle.feeds(session, frame)
    rows = [
        {n: values[row : row + 1] for n, values in columns.items()} for row in range(len(frame))
    ]
    # The fastest of a few: what else the machine did is not the model's.
    taken = [min(_seconds(session, row) for _ in range(LATENCY_REPEATS)) for row in rows]
    yield _measured("latency, one row, 99 %", float(np.percentile(taken, 99)) * 1000, limit, "ms")


def _seconds(session: InferenceSession, row: dict[str, Array]) -> float:
    start = time.perf_counter()
    session.run(None, row)
    return time.perf_counter() - start


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


def _change(compared: Compared) -> str:
    bounds = f"{signed(compared.low)} to {signed(compared.high)}"
    return f"{signed(compared.difference)} ({bounds})"


RULES: tuple[Ask, ...] = (
    limits,
    not_worse_than_the_champion,
    every_slice,
    latency,
    size,
)
