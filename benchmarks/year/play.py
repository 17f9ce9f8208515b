"""Simulate the months: services answer, labels arrive, each policy decides, the gate judges."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from benchmarks.figure import progress
from benchmarks.year import service
from benchmarks.year.policies import POLICIES, Month, Policy, month_ends
from benchmarks.year.service import Scored
from benchmarks.year.source import Source
from benchmarks.year.team import ENVIRONMENT, Team
from mlops.contract import project
from mlops.evaluation import metrics
from mlops.monitoring import watch

START, END = dt.date(2013, 5, 31), dt.date(2013, 12, 31)
# Labels have arrived, and monitoring runs, at the end of the month's last day.
EVENING = dt.time(23, 59)


@dataclass
class Simulation:
    """Three teams, one source of data, and the folder of the services' logs and the labels."""

    base: Path
    source: Source
    teams: dict[Policy, Team]
    scored: dict[str, Scored] = field(default_factory=dict)

    def run(self) -> Iterator[Month]:
        """Every month under every policy, in the order of time."""
        for end in month_ends(START, END):
            self.source.arrive(end)
            params = self.teams["never"].params()
            rows = self.source.month(params, end, self.base / "months" / f"{end:%Y-%m}")
            self.scored.clear()
            for policy in POLICIES:
                month = self._month(policy, end, rows)
                progress(month.line)
                yield month

    def _month(self, policy: Policy, end: dt.date, rows: pd.DataFrame) -> Month:
        team = self.teams[policy]
        scored = self._scored(team, end, rows)
        spec = project.features(team.params().project)
        outcome = rows[spec.target].to_numpy(dtype="float64")
        auc = metrics.score("binary", outcome, scored.probability, 0.5)["roc_auc"]
        if policy == "monitored":
            service.append_samples(scored, self.base / "logs" / f"predictions-{end:%Y-%m}.jsonl")
            labels = self.base / "labels"
            labels.mkdir(exist_ok=True)
            service.labels(rows, spec).to_parquet(labels / f"{end:%Y-%m}.parquet", index=False)
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

    def _scored(self, team: Team, end: dt.date, rows: pd.DataFrame) -> Scored:
        """The answers of the team's service; teams that serve the same bundle share them."""
        digest, bundle = team.bundle()
        if digest not in self.scored:
            spec = project.features(team.params().project)
            samples = self.base / "samples" / f"{end:%Y-%m}-{digest[:12]}"
            self.scored[digest] = service.score(bundle, rows, spec, samples)
        return self.scored[digest]
