"""A repository that pins a bundle, the answers that it gave, and what came true."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from mlops.base.files import folder_digest, write_json
from mlops.contract import bundle, dataset
from mlops.contract.paths import BUNDLE, EVIDENCE
from mlops.deploy import manifest
from mlops.deploy.manifest import Contents, Pin
from mlops.evaluation import metrics
from mlops.registry.store import STORE
from mlops.serving import model
from mlops.serving.samples import Sample, lines
from tests.mlops.serving import bundles

REPOSITORY = Path(__file__).parents[3]
NOW = datetime(2026, 3, 29, 12, tzinfo=UTC)
HOURS = 24
ROWS = 600
ENVIRONMENT = "production"
LIMITS = {
    "logs": "logs/{environment}", "labels": None, "hours": HOURS, "windows": 2, "rows": 500,
    "ignore": (), "drift": 0.2, "share": 0.3, "scores": 0.2, "missing": 0.1, "unseen": 0.02,
    "performance": 0.02, "calibration": 0.03,
}  # fmt: skip


def write_bundle(folder: Path, task: str) -> None:
    """A bundle whose reference has predictions, and the evidence of its own training rows."""
    rows = bundles.frame(4000, seed=3)
    content = bundles.exported("lightgbm", task, rows)
    prediction = bundle.predict(bundle.session(content), rows, task)
    reference = dataset.with_prediction(rows, prediction)
    card = bundles.card(rows, "lightgbm", task)
    bundles.write(folder / BUNDLE, content, card, reference)
    found = metrics.intervals(
        task, bundles.outcome(rows, task).astype(float), prediction, card["threshold"], draws=50
    )
    (folder / EVIDENCE).mkdir(parents=True)
    holdout = {name: vars(interval) for name, interval in found.items()}
    write_json(folder / EVIDENCE / "metrics.json", {"holdout": holdout, "baselines": {}})


@dataclass(frozen=True)
class Place:
    """A folder that looks like the repository, as far as monitoring looks."""

    root: Path
    pin: Pin

    @classmethod
    def make(cls, root: Path, made: Path) -> Place:
        digest, evidence = (folder_digest(made / part) for part in (BUNDLE, EVIDENCE))
        shutil.copytree(made, root / STORE / digest)
        shutil.copytree(REPOSITORY / "environments", root / "environments")
        pin = Pin(
            model="a-model", version=7, digest=digest, evidence=evidence, run="1", commit="a" * 40,
            data="b" * 64, dvc=Contents(bundle="1" * 32 + ".dir", evidence="2" * 32 + ".dir"),
            metrics={},
        )  # fmt: skip
        place = cls(root, pin)
        place.repin(pin)
        place.logs.mkdir(parents=True)
        return place

    @property
    def logs(self) -> Path:
        return self.root / "logs" / ENVIRONMENT

    @property
    def folder(self) -> Path:
        return self.root / STORE / self.pin.digest

    @property
    def card(self) -> Any:
        return bundle.read_card(self.folder / BUNDLE)

    def repin(self, pin: Pin | None) -> None:
        file = self.root / manifest.path(ENVIRONMENT)
        file.write_text(manifest.with_pin(file.read_text(), pin))

    def answer(
        self, rows: pd.DataFrame, window: int = 0, file: str = "predictions-1.jsonl", **other: Any
    ) -> list[str]:
        """What the service would write when asked these rows, spread over a window; their ids."""
        served = model.load(self.folder / BUNDLE, "7")
        batch = model.Batch(
            rows[list(served.numeric)].to_numpy("float32"),
            rows[list(served.categorical)].to_numpy(object),
        )
        outputs = served.score(batch)
        start = NOW - timedelta(hours=HOURS * (window + 1))
        times = start.timestamp() + (np.arange(len(rows)) + 0.5) / len(rows) * HOURS * 3600
        ids = [f"{window}-{i}" for i in range(len(rows))]
        with (self.logs / file).open("a") as out:
            for i, (time, name) in enumerate(zip(times.tolist(), ids, strict=True)):
                row = model.Batch(batch.numeric[i : i + 1], batch.categorical[i : i + 1])
                sample = Sample(time, name, served, row, [o[i : i + 1] for o in outputs])
                out.write(lines(sample)[0].replace(*other.get("replace", ("", ""))) + "\n")
        return ids

    def labels(self, content: dict[str, Any], file: str = "labels.csv") -> None:
        path = self.root / "labels" / file
        path.parent.mkdir(exist_ok=True)
        table = pd.DataFrame(content)
        table.to_parquet(path) if path.suffix == ".parquet" else table.to_csv(path, index=False)

    def params(self, **changes: Any) -> Any:
        from mlops.contract import params

        loaded = params.load(REPOSITORY)
        return loaded.model_copy(update={"monitoring": params.Monitoring(**{**LIMITS, **changes})})

    def write_params(self) -> None:
        content = yaml.safe_load((REPOSITORY / "params.yaml").read_text())
        content["monitoring"] = {**LIMITS, "ignore": []}
        (self.root / "params.yaml").write_text(yaml.safe_dump(content))

    def watch(self, now: datetime = NOW, **changes: Any) -> Any:
        from mlops.monitoring import watch

        return watch.run(self.params(**changes), self.root, ENVIRONMENT, now)
