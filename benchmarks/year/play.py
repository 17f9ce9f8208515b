"""Simulate the months: models answer, outcomes arrive, each policy decides, the gate judges."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from benchmarks.figure import progress
from benchmarks.year.policies import POLICIES, Month, Policy, month_ends
from benchmarks.year.source import Source, ask, publish
from benchmarks.year.team import ENVIRONMENT, Team
from mlops.contract import project
from mlops.contract.bundle import Array
from mlops.evaluation import metrics
from mlops.monitoring import watch

START, END = dt.date(2013, 5, 31), dt.date(2013, 12, 31)
# Outcomes have arrived, and monitoring runs, at the end of the month's last day.
EVENING = dt.time(23, 59)


@dataclass
class Simulation:
    """Three teams, one source of data, and the folder of published features and samples."""

    base: Path
    source: Source
    teams: dict[Policy, Team]
    # Teams that serve the same bundle share its answers.
    scored: dict[str, tuple[Array, list[str]]] = field(default_factory=dict)

    @property
    def features(self) -> str:
        """Where features are published."""
        return str(self.base / "features.sqlite")

    def run(self) -> Iterator[Month]:
        """Every month under every policy, in the order of time."""
        for end in month_ends(START, END):
            self.source.arrive(end)
            params = self.teams["never"].params()
            rows = self.source.month(params, end, self.base / "months" / f"{end:%Y-%m}")
            self.scored.clear()
            publish(rows, project.features(params.project), self.features)
            for policy in POLICIES:
                month = self._month(policy, end, rows)
                progress(month.line)
                yield month

    def _month(self, policy: Policy, end: dt.date, rows: pd.DataFrame) -> Month:
        team = self.teams[policy]
        spec = project.features(team.params().project)
        digest, bundle = team.bundle()
        if digest not in self.scored:
            folder = self.base / "services" / f"{end:%Y-%m}-{policy}"
            self.scored[digest] = ask(bundle, rows, spec, self.features, folder)
        probability, lines = self.scored[digest]
        outcome = rows[spec.target].to_numpy(dtype="float64")
        auc = metrics.score("binary", outcome, probability, 0.5)["roc_auc"]
        if policy == "monitored":
            log = self.base / "logs" / f"predictions-{end:%Y-%m}.jsonl"
            log.parent.mkdir(exist_ok=True)
            log.write_text("\n".join(lines) + "\n")
        why = self._why(policy, end)
        # A training after the last month would not be measured.
        retrained = bool(why) and end < END and policy != "never"
        merged = team.retrain(end, why) if retrained else False
        return Month(policy, end, auc, retrained, merged, why)

    def _why(self, policy: Policy, end: dt.date) -> str:
        """The reason to retrain now, or nothing."""
        if policy != "monitored":
            return "a month has passed" if policy == "monthly" else ""
        team, now = self.teams[policy], dt.datetime.combine(end, EVENING, dt.UTC)
        assessment = watch.run(team.params(), team.root, ENVIRONMENT, now)
        return "; ".join(assessment.reasons) if assessment.state == "retrain" else ""
