"""Monitoring: faults that it detects, false alarms, and the cost of a million rows.

All rows go through log lines that the service's own code writes and `mlops monitor` reads. Each
fault is in a single window of as few rows as are judged at all; no feature is ignored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np

from benchmarks import answers
from benchmarks.answers import ENVIRONMENT, LABELS, LOGS
from benchmarks.figure import Figure, at_most, progress
from benchmarks.workspace import Workspace, workspace
from mlops.contract import bundle, dataset, params
from mlops.contract.paths import BUNDLE, FEATURES
from mlops.contract.stages import MADE_BY_DVC, MODULES
from mlops.monitoring import watch
from mlops.monitoring.assessment import Assessment
from mlops.monitoring.params import Params
from mlops.serving.model import Model

if TYPE_CHECKING:
    import pandas as pd

# A short search: its candidates with fixed hyperparameters are as good for this as any.
CHANGES = {
    "tune.max_evals": 4, "monitoring.logs": str(LOGS), "monitoring.labels": str(LABELS),
    "monitoring.ignore": [],
}  # fmt: skip
NOW = datetime(2026, 1, 1, tzinfo=UTC)
SECONDS, MEGABYTES, FALSE_ALARMS = 60, 2048, 2
WINDOWS, LABELLED_WINDOWS, PREDICTIONS = 200, 20, 1_000_000
# Strength of the faults: a shift in standard deviations, a share of rows, a factor of the rate.
SHIFT, UNSEEN, RATE = 1.0, 0.1, 2.0
Change = Callable[["pd.DataFrame"], "pd.DataFrame"]


@dataclass(frozen=True)
class Monitor:
    """The monitoring of one repository, a single window of rows at a time."""

    place: Workspace
    served: Model
    settings: Params

    @property
    def rows(self) -> int:
        """The fewest rows that are judged."""
        return self.settings.monitoring.rows

    def assess(self, rows: pd.DataFrame, labels: Iterable[float] = ()) -> Assessment:
        """Log and assess one window of these rows."""
        hours = self.settings.monitoring.hours
        answers.write(self.place.root, self.served, rows, NOW, hours, list(labels))
        return watch.run(self.settings, self.place.root, ENVIRONMENT, NOW)

    def draw(
        self, rows: pd.DataFrame, seed: int, weights: bundle.Array | None = None
    ) -> pd.DataFrame:
        """Draw a window's rows, with replacement."""
        drawn = rows.sample(self.rows, replace=True, random_state=seed, weights=weights)
        return drawn.reset_index(drop=True)


def measure() -> Iterator[Figure]:
    """Detection, false alarms, and the cost of a million predictions."""
    import pandas as pd

    with workspace(CHANGES) as place:
        for stage in MADE_BY_DVC:
            progress(f"monitoring: {stage}")
            place.module(MODULES[stage])
        settings = params.load(Params, place.root)
        monitor = Monitor(place, answers.pin(place.root), settings)
        files = BUNDLE / bundle.REFERENCE, FEATURES / dataset.TRAINING, FEATURES / dataset.HOLDOUT
        reference, training, holdout = (pd.read_parquet(place.root / file) for file in files)
        yield from _detection(monitor, reference, training)
        yield from _false_alarms(monitor, reference, holdout)
        yield from _cost(monitor, holdout)


def _detection(
    monitor: Monitor, reference: pd.DataFrame, training: pd.DataFrame
) -> Iterator[Figure]:
    """The share of windows, one for each column and fault, in which the fault is detected."""
    columns = [(column.name, column.type == "string") for column in monitor.served.card.inputs]
    faults: dict[str, list[Change]] = {
        "a shifted feature": [_shifted(name, reference) for name, text in columns if not text],
        "an unseen category": [_unseen(name) for name, text in columns if text],
        "a sensor of nulls": [_nulls(name) for name, _ in columns],
    }
    for fault, changes in faults.items():
        progress(f"monitoring: {fault}")
        drawn = (monitor.draw(reference, seed) for seed in range(WINDOWS))
        states = [monitor.assess(c(rows)).state for c, rows in zip(changes, drawn, strict=False)]
        yield _detected(fault, states)
    progress("monitoring: label shift")
    labelled = training.dropna(subset=[monitor.served.card.target])
    label = labelled[monitor.served.card.target].astype(int)
    others = (1 - RATE * label.mean()) / (1 - label.mean())
    states = []
    for seed in range(LABELLED_WINDOWS):
        rows = monitor.draw(labelled, seed, np.where(label == 1, RATE, others))
        states.append(monitor.assess(rows, rows[monitor.served.card.target]).state)
    yield _detected("label shift", states)


def _false_alarms(
    monitor: Monitor, reference: pd.DataFrame, holdout: pd.DataFrame
) -> Iterator[Figure]:
    for source, rows, first in (("the reference", reference, 1000), ("labels", holdout, 2000)):
        progress(f"monitoring: false alarms of {source}")
        alarms = 0
        for seed in range(WINDOWS):
            drawn = monitor.draw(rows, first + seed)
            labels = drawn[monitor.served.card.target] if rows is holdout else ()
            assessment = monitor.assess(drawn, labels)
            surely = any("surely worse" in reason for reason in assessment.reasons)
            alarms += surely if rows is holdout else assessment.state != "ok"
        name = f"false alarms, {WINDOWS} windows of {source}"
        yield at_most(name, alarms, FALSE_ALARMS, f"{monitor.rows} rows each")


def _cost(monitor: Monitor, holdout: pd.DataFrame) -> Iterator[Figure]:
    """Time and memory of the command on so many rows, each with a label."""
    progress(f"monitoring: writing {PREDICTIONS:,} answers")
    rows = holdout.iloc[np.arange(PREDICTIONS) % len(holdout)]
    limits = monitor.settings.monitoring
    labels = list(rows[monitor.served.card.target])
    hours = limits.hours * limits.windows
    answers.write(monitor.place.root, monitor.served, rows, datetime.now(UTC), hours, labels)
    progress("monitoring: judging them")
    ended = monitor.place.mlops("monitor", ENVIRONMENT, watched=True)
    detail = f"{len(monitor.served.card.inputs)} features, with labels"
    yield at_most(f"monitor {PREDICTIONS:,} predictions, s", ended.seconds, SECONDS, detail)
    yield at_most("its peak memory, MB", ended.peak / 2**20, MEGABYTES, "whole process")


def _shifted(name: str, reference: pd.DataFrame) -> Change:
    step = SHIFT * reference[name].std()
    return lambda rows: rows.assign(**{name: rows[name] + step})


def _unseen(name: str) -> Change:
    return lambda rows: rows.assign(
        **{name: rows[name].where(np.arange(len(rows)) >= UNSEEN * len(rows), "never seen")}
    )


def _nulls(name: str) -> Change:
    return lambda rows: rows.assign(**{name: None if rows[name].dtype == object else np.nan})


def _detected(fault: str, states: Sequence[str]) -> Figure:
    detected = sum(state != "ok" for state in states)
    share = f"{100 * detected / len(states):.0f} %"
    value = f"{share} ({detected} of {len(states)} windows)"
    return Figure(f"detected in one window: {fault}", value, "100 %", detected == len(states))
