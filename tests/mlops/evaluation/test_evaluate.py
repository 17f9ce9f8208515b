"""The evidence is plain JSON, whatever metrics the holdout leaves undefined."""

from mlops.base.files import read_json
from mlops.evaluation import evaluate
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
