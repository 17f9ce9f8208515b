"""A repository that pins a bundle, the answers that the bundle gave, and their labels."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from mlops.base.files import folder_digest, write_json
from mlops.contract import bundle, dataset
from mlops.contract.paths import BUNDLE, EVIDENCE
from mlops.deploy import manifest
from mlops.evaluation import metrics
from mlops.monitoring.answers import Asked
from mlops.monitoring.params import Params
from mlops.registry.pin import Pin
from mlops.registry.store import STORE
from mlops.serving import model
from mlops.serving.samples import Sample, lines
from tests.mlops.deploy import small
from tests.mlops.serving import bundles

NOW = datetime(2026, 3, 29, 12, tzinfo=UTC)
HOURS = 24
ROWS = 600
ENVIRONMENT = "production"
MANIFEST = "target: local\nendpoint: a-model\npin: null\n"
LIMITS = {
    "logs": "logs/{environment}", "labels": None, "hours": HOURS, "windows": 2, "rows": 500,
    "ignore": [], "drift": 0.2, "share": 0.3, "scores": 0.2, "missing": 0.1, "unseen": 0.02,
    "performance": 0.02, "calibration": 0.03,
}  # fmt: skip
PARAMS = {"project": "example", "model": "a-model", "engine": "duckdb", "seed": 0, "threads": 1,
          "data": {"source": "files", "location": "csv"},
          "split": {"holdout_days": 1, "validation_days": 1, "folds": 1}}  # fmt: skip


def write_bundle(folder: Path, task: str) -> None:
    """Write a bundle whose reference has predictions, and evidence of its own training rows."""
    rows = bundles.frame(4000, seed=3)
    content = bundles.exported("lightgbm", task, rows)
    prediction = bundle.predict(bundle.session(content), rows, task)
    reference = dataset.with_prediction(rows, prediction)
    card = bundles.card(rows, "lightgbm", task)
    bundles.write(folder / BUNDLE, content, card, reference)
    intervals = metrics.intervals(
        task, bundles.outcome(rows, task).astype(float), prediction, card["threshold"], draws=50
    )
    (folder / EVIDENCE).mkdir(parents=True)
    holdout = {name: vars(interval) for name, interval in intervals.items()}
    write_json(folder / EVIDENCE / "metrics.json", {"holdout": holdout, "baselines": {}})


def given(served: model.Model, rows: pd.DataFrame) -> model.Rows:
    """A frame's rows as a request has them."""
    names = served.numeric, served.categorical
    return model.Rows(*([*rows[list(each)].itertuples(index=False, name=None)] for each in names))


@dataclass(frozen=True)
class Place:
    """A folder with those parts of a repository that monitoring reads."""

    root: Path
    pin: Pin

    @classmethod
    def make(cls, root: Path, made: Path) -> Place:
        digest, evidence = (folder_digest(made / part) for part in (BUNDLE, EVIDENCE))
        shutil.copytree(made, root / STORE / digest)
        pin = small.pin(digest, 7, "a-model").model_copy(update={"evidence": evidence})
        place = cls(root, pin)
        (root / manifest.FOLDER).mkdir()
        place.repin(pin)
        place.logs.mkdir(parents=True)
        (root / "params.yaml").write_text(yaml.safe_dump({**PARAMS, "monitoring": LIMITS}))
        return place

    @property
    def logs(self) -> Path:
        return self.root / "logs" / ENVIRONMENT

    @property
    def folder(self) -> Path:
        return self.root / STORE / self.pin.digest

    @property
    def card(self) -> bundle.Card:
        return bundle.read_card(self.folder / BUNDLE)

    def asked(self, where: str, card: bundle.Card | None = None, now: datetime = NOW) -> Asked:
        """The answers that the pinned bundle gave up to now, recorded at a place."""
        return Asked(where, self.root, card or self.card, self.pin, now)

    def repin(self, pin: Pin | None) -> None:
        (self.root / manifest.path(ENVIRONMENT)).write_text(manifest.with_pin(MANIFEST, pin))

    def answer(
        self, rows: pd.DataFrame, window: int = 0, replace: tuple[str, str] = ("", "")
    ) -> list[str]:
        """Log the answers to these rows, spread over a window, a request each; gives their ids."""
        served = model.load(self.folder / BUNDLE, "7")
        asked = given(served, rows)
        outputs = served.score(asked.arrays)
        start = (NOW - timedelta(hours=HOURS * (window + 1))).timestamp()
        ids = [f"{window}-{i}" for i in range(len(rows))]
        with (self.logs / "predictions-1.jsonl").open("a") as log:
            for i, request in enumerate(ids):
                time = start + (i + 0.5) / len(rows) * HOURS * 3600
                row = model.Rows(asked.numeric[i : i + 1], asked.categorical[i : i + 1])
                sample = Sample(time, request, served, row, [o[i : i + 1] for o in outputs], 1)
                log.write(next(lines(sample)).replace(*replace) + "\n")
        return ids

    def labels(self, content: dict[str, Any], file: str = "labels.csv") -> None:
        path = self.root / "labels" / file
        path.parent.mkdir(exist_ok=True, parents=True)
        table = pd.DataFrame(content)
        table.to_parquet(path) if path.suffix == ".parquet" else table.to_csv(path, index=False)

    def watch(self, now: datetime = NOW, environment: str = ENVIRONMENT, **changes: Any) -> Any:
        from mlops.monitoring import watch

        limits = Params(**PARAMS, monitoring={**LIMITS, **changes})
        return watch.run(limits, self.root, environment, now)
