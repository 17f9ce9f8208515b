"""A repository of trips by key: a pinned bundle, its answers, outcomes and published features."""

import shutil
from contextlib import chdir
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd

from mlops.base.files import folder_digest
from mlops.contract.paths import BUNDLE, EVIDENCE
from mlops.deploy import manifest, predict
from mlops.monitoring import watch
from mlops.registry.store import STORE
from mlops.serving import model
from mlops.serving.model import Rows
from mlops.serving.samples import Sample, lines
from tests.mlops.deploy import small
from tests.mlops.monitoring.place import ENVIRONMENT

NOW = datetime(2023, 4, 1, tzinfo=UTC)
MANIFEST = "target: local\nendpoint: trips\npin: null\n"
LOGS = "logs/production"


class Trips:
    """A repository that pins a bundle of trips up to 10 March, and the answers that it gave."""

    def __init__(self, workspace):
        self.workspace, self.root = workspace, workspace.root
        digest = folder_digest(self.root / BUNDLE)
        self.folder = self.root / STORE / digest
        for part in (BUNDLE, EVIDENCE):
            shutil.copytree(self.root / part, self.folder / part)
        evidence = folder_digest(self.root / EVIDENCE)
        self.pin = small.pin(digest).model_copy(update={"evidence": evidence})
        (self.root / manifest.FOLDER).mkdir()
        self.manifest(MANIFEST)
        (self.root / LOGS).mkdir(parents=True)
        workspace.change({"monitoring.logs": LOGS, "monitoring.rows": 100})
        self.asked = 0

    def manifest(self, text):
        (self.root / manifest.path(ENVIRONMENT)).write_text(manifest.with_pin(text, self.pin))

    def features(self, part="holdout"):
        return pd.read_parquet(self.root / f"data/features/{part}.parquet")

    def answer(self, rows, since=NOW - timedelta(days=6), keys=None):
        """Log the answers to rows with their keys, an hour apart for every four."""
        served = model.load(self.folder / BUNDLE, "1")
        self.asked += 1
        with (self.root / LOGS / "predictions-1.jsonl").open("a") as log:
            for first in range(0, len(rows), 4):
                part = rows[first : first + 4].astype(object).where(rows.notna(), None)
                named = list(part["trip"]) if keys is None else keys[first : first + 4]
                numeric, categorical = (
                    [tuple(row) for row in part[list(names)].itertuples(index=False)]
                    for names in (served.numeric, served.categorical)
                )
                asked = Rows(numeric, categorical, named)
                moment = (since + timedelta(hours=first / 4)).timestamp()
                outputs = served.score(asked.arrays)
                sample = Sample(moment, f"{self.asked}-{first}", served, asked, outputs, 1)
                log.writelines(f"{line}\n" for line in lines(sample))

    def watch(self):
        with chdir(self.root):
            return watch.run(self.workspace.params(), Path(), ENVIRONMENT, NOW)

    def delays(self, change):
        """Rewrite what is known of the trips' delays."""
        self.workspace.edit_table(
            "trips", lambda t: t.assign(delay=change(t["day"], t["delay"].astype("Int64")))
        )

    def publish(self, first, last):
        with chdir(self.root):
            rows = predict.rows(self.workspace.params(), Path(), first, last)
            place = manifest.load(Path(), ENVIRONMENT).serving.place(ENVIRONMENT, Path())
            return predict.publish(rows, "embedded", place)
