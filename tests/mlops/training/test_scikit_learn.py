"""Estimators of scikit-learn by their dotted names, from the space to the ONNX graph."""

import numpy as np
import pandas as pd
import pytest
from hyperopt import hp

from mlops.base.errors import UserError
from mlops.contract.project import Models
from mlops.training import families, onnx, space

CLASSIFIERS = {
    "ensemble.ExtraTreesClassifier": {"n_estimators": 10},
    "ensemble.GradientBoostingClassifier": {"n_estimators": 10},
    "neural_network.MLPClassifier": {"max_iter": 30},
    "neighbors.KNeighborsClassifier": {},
    "naive_bayes.GaussianNB": {},
    "svm.SVC": {"probability": True},
}
REGRESSORS = {
    "ensemble.RandomForestRegressor": {"n_estimators": 10},
    "neural_network.MLPRegressor": {"max_iter": 30},
    "linear_model.HuberRegressor": {},
    "svm.SVR": {},
}
CASES = [
    *((name, own, "binary") for name, own in CLASSIFIERS.items()),
    ("neural_network.MLPClassifier", {"max_iter": 30}, "multiclass"),
    *((name, own, "regression") for name, own in REGRESSORS.items()),
]
CLASSES = {"binary": 2, "multiclass": 3, "regression": 1}


@pytest.fixture(scope="module")
def rows():
    """Rows with missing numbers and a category, and an outcome of each task."""
    random = np.random.default_rng(0)
    frame = pd.DataFrame(random.normal(size=(300, 3)).astype(np.float32), columns=list("abc"))
    value = (2 * frame["a"] + frame["b"]).to_numpy()
    frame.loc[::17, "b"] = np.nan
    frame["town"] = random.choice(["Bergen", "Oslo"], len(frame))
    outcomes = {"regression": value, "binary": (value > 0).astype(int)}
    return frame, outcomes | {"multiclass": np.digitize(value, [-1, 1])}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("name", "own", "task"), CASES)
def test_the_graph_predicts_as_the_estimator_does(rows, name, own, task):
    frame, outcomes = rows
    family = families.family(f"sklearn.{name}")
    encoder = families.encoder(family.ENCODING, frame).fit(frame)
    estimator = family.build(task, own, 1, 1)
    matrix = encoder.transform(frame).astype(np.float32)
    assert family.fit(estimator, (matrix, outcomes[task]), None) is None
    graph = onnx.export(encoder, estimator, frame, task, CLASSES[task])
    assert onnx.require_parity(graph, encoder, estimator, frame, task, 1e-5) <= 1e-5


def refusal(name, task="binary", **own):
    with pytest.raises(UserError) as error:
        space.searched(Models(task, {name: own}, []), [name])
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    ("name", "own", "line"),
    [
        ("sklearn.ensembles.ExtraTreesClassifier", {},
         "params.yaml: tune.families: found 'sklearn.ensembles.ExtraTreesClassifier', no such "
         "module of scikit-learn"),
        ("sklearn.ensemble.ExtraTreeClassifier", {},
         "params.yaml: tune.families: sklearn.ensemble: no estimator 'ExtraTreeClassifier'; did "
         "you mean 'ExtraTreesClassifier'?"),
        ("sklearn.svm.SVR", {},
         "models.py: SPACE: sklearn.svm.SVR: ValueError: found SVR, expected a classifier for a "
         "binary task"),
        ("sklearn.svm.LinearSVC", {},
         "models.py: SPACE: sklearn.svm.LinearSVC: ValueError: LinearSVC: has no predict_proba "
         "with these arguments"),
        ("sklearn.svm.SVC", {"c": hp.uniform("c", 0, 1)},
         "models.py: SPACE: sklearn.svm.SVC: TypeError: SVC.__init__() got an unexpected keyword "
         "argument 'c'"),
        ("sklearn.semi_supervised.LabelSpreading", {},
         "params.yaml: tune.families: sklearn.semi_supervised.LabelSpreading: found "
         "LabelSpreading, for which skl2onnx has no converter"),
    ],
)  # fmt: skip
def test_what_could_not_be_searched_or_exported_is_refused_before_the_search(name, own, line):
    assert refusal(name, **own) == line


def test_arguments_of_the_space_come_before_the_seed_and_the_threads():
    family = families.family("sklearn.ensemble.ExtraTreesClassifier")
    estimator = family.build("binary", {"n_jobs": 1}, 5, 3)
    assert (estimator.n_jobs, estimator.random_state) == (1, 5)


def test_one_that_spark_cannot_fit_is_refused_for_several_workers():
    with pytest.raises(UserError, match=r"sklearn\.svm\.SVC of tune\.families can't be fitted"):
        families.require_distributed(["sklearn.svm.SVC"], 2)
