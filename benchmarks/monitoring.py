"""Monitoring: what it finds, what it finds where nothing is, and what a million rows cost.

Everything goes through log lines that the service's own code writes, and `mlops monitor` reads.
What must be found is in one window of as few rows as may be judged; no feature is ignored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np

from benchmarks import answers, process
from benchmarks.answers import ENVIRONMENT, LABELS, LOGS, Answers
from benchmarks.figure import Figure, Plan, at_most, progress
from benchmarks.workspace import BIN, Workspace, workspace
from mlops.contract import bundle, dataset, params
from mlops.contract.paths import BUNDLE, FEATURES
from mlops.contract.stages import MADE_BY_DVC, MODULES
from mlops.monitoring import watch
from mlops.monitoring.params import Params
from mlops.monitoring.watch import Watched

if TYPE_CHECKING:
    import pandas as pd

# A search that is over soon: its hand-set candidates are models as good as any to be watched.
SEARCH = {"tune.max_evals": 4}
WATCHED = {"monitoring.logs": str(LOGS), "monitoring.labels": str(LABELS), "monitoring.ignore": []}
NOW = datetime(2026, 1, 1, tzinfo=UTC)
SECONDS, MEGABYTES, FALSE_ALARMS = 60, 2048, 2
# How strong what is injected is: a shift in standard deviations, shares of rows.
SHIFT, UNSEEN, RATE = 1.0, 0.1, 2.0
Change = Callable[["pd.DataFrame"], "pd.DataFrame"]


@dataclass(frozen=True)
class Judge:
    """Windows of rows, written and judged one at a time."""

    place: Workspace
    answers: Answers
    limits: Params

    def state(self, rows: pd.DataFrame, labels: Iterable[float] = ()) -> Watched:
        """What is said of one window of these rows."""
        self.answers.clear()
        hours = self.limits.monitoring.hours
        self.answers.write(rows, NOW, hours, list(labels))
        return watch.run(self.limits, self.place.root, ENVIRONMENT, NOW)


def measure(plan: Plan) -> Iterator[Figure]:
    """Detection, false alarms, and the cost of a million predictions."""
    import pandas as pd

    with workspace({**SEARCH, **WATCHED, **plan.changes}) as place:
        for stage in MADE_BY_DVC:
            progress(f"monitoring: {stage}")
            place.module(MODULES[stage])
        judge = Judge(place, answers.pin(place.root), params.load_all(place.root))
        reference = pd.read_parquet(place.root / BUNDLE / bundle.REFERENCE)
        training = pd.read_parquet(place.root / FEATURES / dataset.TRAINING)
        holdout = pd.read_parquet(place.root / FEATURES / dataset.HOLDOUT)
        yield from _injected(judge, reference, training, plan)
        yield from _false_alarms(judge, reference, holdout, plan.windows)
        yield from _cost(place, judge, holdout, plan.predictions)


def _injected(
    judge: Judge, reference: pd.DataFrame, training: pd.DataFrame, plan: Plan
) -> Iterator[Figure]:
    """Whether every fault is seen in its first window: one window for each column and fault."""
    served, few = judge.answers.served, plan.windows
    faults: dict[str, list[Change]] = {
        "a shifted feature": [_shifted(name, reference) for name in served.numbers[:few]],
        "an unseen category": [_unseen(name) for name in served.words[:few]],
        "a sensor of nulls": [_nulls(name) for name in (*served.numbers, *served.words)[:few]],
    }
    for fault, changes in faults.items():
        progress(f"monitoring: {fault}")
        seen = [
            judge.state(change(_draw(reference, judge, seed))).state != "ok"
            for seed, change in enumerate(changes)
        ]
        yield _detected(fault, seen)
    progress("monitoring: label shift")
    target = served.card.target
    known = training.dropna(subset=[target])
    shifted = [_relabelled(known, target, judge, seed) for seed in range(min(few, 20))]
    yield _detected(
        "label shift", [judge.state(rows, rows[target]).state != "ok" for rows in shifted]
    )


def _false_alarms(
    judge: Judge, reference: pd.DataFrame, holdout: pd.DataFrame, windows: int
) -> Iterator[Figure]:
    progress("monitoring: false alarms")
    alarms = [
        judge.state(_draw(reference, judge, 1000 + seed)).state != "ok" for seed in range(windows)
    ]
    name = f"false alarms, {windows} windows of the reference"
    yield at_most(name, sum(alarms), FALSE_ALARMS, f"{_rows(judge)} rows each")
    progress("monitoring: false alarms of labels")
    target, alarms = judge.answers.served.card.target, []
    for seed in range(windows):
        rows = _draw(holdout, judge, 2000 + seed)
        seen = judge.state(rows, rows[target])
        alarms.append(any("surely worse" in reason for reason in seen.reasons))
    name = f"false alarms, {windows} windows of labels"
    yield at_most(name, sum(alarms), FALSE_ALARMS, f"{_rows(judge)} labels each")


def _cost(
    place: Workspace, judge: Judge, holdout: pd.DataFrame, predictions: int
) -> Iterator[Figure]:
    """A whole process of the verb, on as many rows and as many labels."""
    progress(f"monitoring: writing {predictions:,} answers")
    judge.answers.clear()
    rows = holdout.iloc[np.arange(predictions) % len(holdout)]
    limits = judge.limits.monitoring
    labels = rows[judge.answers.served.card.target]
    judge.answers.write(rows, datetime.now(UTC), limits.hours * limits.windows, list(labels))
    progress("monitoring: judging them")
    command = [str(BIN / "mlops"), "monitor", ENVIRONMENT]
    ended = process.run(command, place.root, place.environment, watched=True)
    columns = len(judge.answers.served.card.inputs)
    said = f"{columns} features, labels too"
    yield at_most(f"monitor {predictions:,} predictions, s", ended.seconds, SECONDS, said)
    yield at_most("its peak memory, MB", ended.peak / 2**20, MEGABYTES, "whole process")


def _rows(judge: Judge) -> int:
    return judge.limits.monitoring.rows


def _draw(rows: pd.DataFrame, judge: Judge, seed: int) -> pd.DataFrame:
    return rows.sample(_rows(judge), replace=True, random_state=seed).reset_index(drop=True)


def _shifted(name: str, reference: pd.DataFrame) -> Change:
    step = SHIFT * reference[name].std()
    return lambda rows: rows.assign(**{name: rows[name] + step})


def _unseen(name: str) -> Change:
    def change(rows: pd.DataFrame) -> pd.DataFrame:
        some = np.arange(len(rows)) < UNSEEN * len(rows)
        return rows.assign(**{name: rows[name].where(~some, "never seen")})

    return change


def _nulls(name: str) -> Change:
    return lambda rows: rows.assign(**{name: None if rows[name].dtype == object else np.nan})


def _relabelled(rows: pd.DataFrame, target: str, judge: Judge, seed: int) -> pd.DataFrame:
    """Rows of the same kinds, of which so many times as many are positive."""
    rate = float(rows[target].astype(float).mean())
    others = (1 - RATE * rate) / (1 - rate)
    weights = np.where(rows[target].astype(int) == 1, RATE, others)
    return rows.sample(_rows(judge), replace=True, weights=weights, random_state=seed).reset_index(
        drop=True
    )


def _detected(fault: str, seen: list[bool]) -> Figure:
    share = 100 * sum(seen) / len(seen)
    value = f"{share:.0f} % ({sum(seen)} of {len(seen)} windows)"
    return Figure(f"detected in one window: {fault}", value, "100 %", all(seen))
