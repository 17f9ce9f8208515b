"""Contributions add up to the score, on bundles of every task."""

from __future__ import annotations

import numpy as np
import pytest

from mlops.base.errors import UserError
from mlops.contract import dataset, project
from mlops.contract.bundle import Scorer
from mlops.contract.paths import FEATURES
from mlops.evaluation import explanation

# shap's first import compiles for seconds.
pytestmark = pytest.mark.nightly


def keys(root, spec):
    """Of three rows of the holdout."""
    return list(dataset.read(root / FEATURES / dataset.HOLDOUT)[spec.key].astype(str).head(3))


@pytest.mark.parametrize("name", ["trips", "diabetes", "wine"])
def test_contributions_add_up_to_the_score_that_the_bundle_gives(finished, name):
    workspace = finished(name)
    spec = project.features(name)
    folder = workspace.root / "models" / "bundle"
    rows = explanation.rows(workspace.root, spec, keys(workspace.root, spec))
    scores = Scorer(folder).predict(rows[list(spec.features)])
    scores = scores.max(axis=1) if scores.ndim == 2 else scores
    found = explanation.explain(folder, rows, 0)
    assert [one.score for one in found] == pytest.approx(list(scores), abs=1e-6)
    sums = [one.base + one.contributions["contribution"].sum() for one in found]
    assert sums == pytest.approx([one.score for one in found], abs=1e-9)
    # What does not vary in the graph contributes nothing; something always does.
    assert all(one.contributions["contribution"].abs().max() > 0 for one in found)
    again = explanation.explain(folder, rows, 0)
    assert all(
        np.array_equal(a.contributions["contribution"], b.contributions["contribution"])
        for a, b in zip(found, again, strict=True)
    )


def test_the_lines_add_up_too(finished):
    workspace = finished("diabetes")
    spec = project.features("diabetes")
    rows = explanation.rows(workspace.root, spec, keys(workspace.root, spec)[:1])
    (found,) = explanation.explain(workspace.root / "models" / "bundle", rows, 0)
    first, *contributions = found.lines(3)
    assert first == f"score {found.score:.4f}, mean score of the reference rows {found.base:.4f}"
    assert len(contributions) == 4
    assert contributions[-1].endswith(f"{len(found.contributions) - 3} others")
    total = sum(float(line.split()[0]) for line in contributions)
    assert total == pytest.approx(found.score - found.base, abs=3e-4)


def test_a_key_that_no_row_has_is_refused_with_one_that_there_is(finished):
    workspace = finished("trips")
    spec = project.features("trips")
    key = keys(workspace.root, spec)[0]
    line = f"^data/features: {spec.key}: found no row '{key}x', expected a key such as '"
    with pytest.raises(UserError, match=line):
        explanation.rows(workspace.root, spec, [key + "x"])


def test_features_that_are_not_made_or_lack_an_input_are_said_in_a_line(finished, tmp_path):
    spec = project.features("trips")
    with pytest.raises(UserError, match="training.parquet: not found; featurize writes it"):
        explanation.rows(tmp_path, spec, ["a"])
    root = finished("trips").root
    rows = explanation.rows(root, spec, keys(root, spec)).drop(columns="km")
    with pytest.raises(UserError, match="^data/features: found no column km, expected .*bundle's"):
        explanation.explain(root / "models" / "bundle", rows, 0)
