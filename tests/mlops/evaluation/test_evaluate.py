"""The evidence is plain JSON, its baselines and its history of the search are what they say."""

import numpy as np
import pandas as pd
import pytest

from mlops.base.files import read_json, write_json
from mlops.contract.paths import SEARCH
from mlops.contract.project import Features
from mlops.evaluation import baselines, evaluate
from mlops.evaluation.metrics import Interval

NAN = float("nan")


def test_an_undefined_metric_is_null_in_the_evidence(tmp_path):
    measured = {"roc_auc": Interval(NAN, NAN, NAN), "brier": Interval(0.1, 0.05, 0.2)}
    evaluate.write_metrics(tmp_path, measured, {"majority class": {"roc_auc": NAN, "f1": 0.5}})
    assert read_json(tmp_path / evaluate.METRICS) == {
        "holdout": {
            "roc_auc": {"value": None, "low": None, "high": None},
            "brier": {"value": 0.1, "low": 0.05, "high": 0.2},
        },
        "baselines": {"majority class": {"roc_auc": None, "f1": 0.5}},
    }


def test_a_trial_that_was_given_up_has_no_score_and_leaves_no_gap_in_the_best_so_far(tmp_path):
    losses = [0.4, 0.1, 0.3, 0.2, 0.5]
    trials = [
        {"family": "linear", "loss": loss, "given_up": place in (1, 3)}
        for place, loss in enumerate(losses)
    ]
    (tmp_path / SEARCH).mkdir(parents=True)
    write_json(tmp_path / SEARCH / "trials.json", trials)
    history = evaluate._search_history(tmp_path)
    assert history["score"].tolist() == pytest.approx([0.4, NAN, 0.3, NAN, 0.5], nan_ok=True)
    assert history["best_so_far"].tolist() == [0.4, 0.4, 0.3, 0.3, 0.3]


def test_the_majority_class_is_what_is_likelier_than_not():
    """One row in three is positive: nothing is called positive, wherever the model cuts."""
    rows = pd.DataFrame({"x": np.arange(90.0), "y": np.arange(90) % 3 == 0})
    spec = Features(dict, "id", None, "y", {"x": "m"}, (), "x")
    rows = rows.assign(y=rows["y"].astype("Int64"))
    scores = baselines.score(rows, rows, spec, "binary", ("0", "1"))
    assert scores["majority class"]["accuracy"] == pytest.approx(2 / 3)
    assert scores["majority class"]["recall"] == 0
    assert scores["one feature: x"]["f1"] >= 0.5
