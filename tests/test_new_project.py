"""A new project replaces `src/flights` and the `project:` line, and nothing else."""

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from mlops.base.files import read_json
from mlops.contract import bundle
from tests.conftest import FIXTURES

NUMBERS = {"diabetes": 1, "wine": 3, "trips": 1}
MAIN_METRIC = {"diabetes": "rmse", "wine": "log_loss", "trips": "roc_auc"}


@pytest.fixture(scope="module", params=NUMBERS)
def project(request):
    return request.param


@pytest.fixture(scope="module")
def workspace(trained, project):
    return trained(project)


def test_the_bundle_scores_the_holdout_with_one_number_or_probabilities(workspace, project):
    holdout = pd.read_parquet(workspace.root / "data/features/holdout.parquet")
    scorer = bundle.Scorer(workspace.root / "models/bundle")
    prediction = scorer.predict(holdout).reshape(len(holdout), -1)
    assert prediction.shape == (len(holdout), NUMBERS[project])
    assert np.isfinite(prediction).all()
    if project == "wine":
        assert prediction.sum(axis=1) == pytest.approx(1, abs=1e-5)
    evidence = pd.read_parquet(workspace.root / "reports/holdout.parquet")
    assert evidence.iloc[:, 0].tolist() == holdout.iloc[:, 0].tolist()
    assert evidence["outcome"].notna().all()
    threshold = bundle.read_card(workspace.root / "models/bundle").threshold
    assert (threshold is not None) == (project == "trips")


def test_the_model_beats_the_constant_and_the_single_feature(workspace, project):
    metrics = read_json(workspace.root / "reports/metrics.json")
    value = metrics["holdout"][MAIN_METRIC[project]]["value"]
    others = [scores[MAIN_METRIC[project]] for scores in metrics["baselines"].values()]
    assert len(others) == 2
    assert value > max(others) if project == "trips" else value < min(others)


def form(root):
    """What a trained workspace consists of: its files, their columns and their keys."""
    files = [path for path in root.rglob("*") if path.is_file()]
    return {path.relative_to(root).as_posix(): _parts(path) for path in files}


def _parts(path):
    if path.suffix == ".parquet":
        return [str(field) for field in pq.read_schema(path)]
    if path.suffix == ".json":
        content = read_json(path)
        return sorted(content) if isinstance(content, dict) else sorted(content[0])
    return path.read_text().splitlines()[0] if path.suffix == ".csv" else None


@pytest.mark.parametrize("folder", ["data/features", "models", "reports"])
def test_the_checked_in_workspace_is_of_the_form_that_the_stages_write(workspace, project, folder):
    kept = form(FIXTURES / project / folder)
    assert kept == form(workspace.root / folder), "make it anew: python -m tests.fixtures"
