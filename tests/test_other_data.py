"""Rows without a day and classes with names go from tables to a bundle that the gate accepts."""

import json
import re
import shutil
from contextlib import chdir
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient

from mlops.base.files import read_json
from mlops.contract import bundle, project
from mlops.gitops import gate, gate_inputs
from mlops.serving.predict import predictions
from tests.conftest import PROJECTS, make_repository

pytestmark = pytest.mark.slow
GROWERS = ["Barbera", "Barolo", "Grignolino"]
CHANGES = {
    "tables.py": {
        "    day: Series[pa.DateTime]\n": "",
        '        metadata = {"day": "day"}\n': "",
        "Series[int] = pa.Field(isin=[0, 1, 2])": f"Series[str] = pa.Field(isin={GROWERS})",
    },
    "features.py": {'DAY = "day"\n': ""},
}


@pytest.fixture(scope="module")
def cellar(tmp_path_factory, store):
    """The wines without days, by the names of their growers, as `evaluate` leaves them."""
    base = tmp_path_factory.mktemp("cellar")
    package = base / "cellar"
    shutil.copytree(PROJECTS / "wine", package)
    for name, replaced in CHANGES.items():
        text = (package / name).read_text()
        for old, new in replaced.items():
            assert old in text
            text = text.replace(old, new)
        (package / name).write_text(text)
    from wine.tables import csv

    tables = csv()
    wines = tables["wines"].drop(columns="day")
    wines["grower"] = np.array(GROWERS)[wines["grower"]]
    workspace = make_repository("cellar", base / "root", package, {**tables, "wines": wines})
    workspace.change({"tune.max_evals": 2, "split.folds": 2, "gate.limits": None})
    settings = workspace.root / "params.yaml"
    settings.write_text(re.sub(r"\n  until: .*", "", settings.read_text()))
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(base))
        shutil.copytree(store, workspace.root / "mlruns")
        workspace.run("ingest", "featurize", "tune", "train", "evaluate")
        yield workspace
    project.forget("cellar")


def test_the_card_names_the_classes_and_says_how_rows_were_held_out(cellar):
    card = bundle.read_card(cellar.root / "models/bundle")
    assert (card.labels, card.classes) == (tuple(GROWERS), 3)
    assert card.trained_on == {
        "rows": len(part(cellar, "training")),
        "by": "wine",
        "holdout_share": 0.2,
    }


def part(workspace, name):
    return pd.read_parquet(workspace.root / f"data/features/{name}.parquet")


def test_a_stable_share_of_the_keys_is_held_out(cellar):
    training, holdout = (part(cellar, name) for name in ("training", "holdout"))
    assert len(training) + len(holdout) == 178
    assert 0.1 < len(holdout) / 178 < 0.3
    assert not set(training["wine"]) & set(holdout["wine"])
    assert "day" not in holdout


def test_the_evidence_and_the_report_are_those_of_the_names(cellar):
    evidence = pd.read_parquet(cellar.root / "reports/holdout.parquet")
    holdout = part(cellar, "holdout")
    assert [GROWERS[number] for number in evidence["outcome"]] == holdout["grower"].tolist()
    page = (cellar.root / "reports/report.html").read_text()
    assert all(f"predicted {name}" in page for name in GROWERS)
    metrics = read_json(cellar.root / "reports/metrics.json")
    assert metrics["holdout"]["accuracy"]["value"] > 0.8


def test_the_gate_accepts_the_first_bundle(cellar):
    with chdir(cellar.root):
        candidate = gate_inputs.candidate(cellar.params(), Path())
        verdict = gate.decide(cellar.params(), candidate, None, "")
    assert verdict.accepted, verdict.line
    assert "roc_auc" in [rule.name for rule in verdict.rules]


def test_the_registered_version_says_the_classes(cellar):
    registered = cellar.run("register")
    client = MlflowClient(f"sqlite:///{cellar.root / 'mlruns/mlflow.db'}")
    version = client.get_model_version("cellar-model", str(registered.version))
    assert json.loads(version.tags["mlops.classes"]) == GROWERS


def test_a_service_answers_with_the_name(cellar):
    card = bundle.read_card(cellar.root / "models/bundle")
    scores = [np.array([0.1, np.nan]), np.array([0.7, 0.5]), np.array([0.2, 0.5])]
    assert [row["class"] for row in predictions(card, scores)] == ["Barolo", None]
