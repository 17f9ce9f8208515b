"""The search space of `models.py` is checked before anything is fitted."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import psutil
import pytest
from hyperopt import hp
from hyperopt.pyll.base import dfs
from sklearn.datasets import load_wine

from mlops.base.errors import UserError
from mlops.contract.project import Models
from mlops.training import families, objective, search, searchers, space
from mlops.training.folds import Fold

LINEAR = {"C": hp.loguniform("linear.C", -4, 2)}


def refusal(first=(), wanted=("linear",), task="binary", **families):
    with pytest.raises(UserError) as error:
        space.searched(Models(task, families or {"linear": LINEAR}, list(first)), wanted)
    return str(error.value)


@pytest.mark.parametrize(
    ("families", "line"),
    [
        ({"linear": {"Cs": hp.uniform("a", 0, 1)}},
         "models.py: SPACE: linear.Cs: not an argument of the binary estimator; did you mean 'C'?"),
        ({"linear": {"C": hp.uniform("a", 0, 1), "tol": hp.uniform("a", 0, 1)}},
         "models.py: SPACE: linear.tol: found the label 'a' a second time, expected 'linear.tol'"),
        ({"linear": {"C": [1, 2]}},
         "models.py: SPACE: linear.C: found [1, 2], expected a constant or one of hp.*"),
        ({"xgboost": {}},
         "models.py: SPACE: found xgboost, expected 'linear' too, which params.yaml names "
         "(tune.families); add it to SPACE, or leave it out there"),
    ],
)  # fmt: skip
def test_a_hyperparameter_that_could_not_be_searched_is_named(families, line):
    assert refusal(**families) == line


@pytest.mark.parametrize(
    ("candidate", "line"),
    [
        ({"family": "linaer", "C": 1.0},
         "models.py: FIRST: family: found 'linaer', expected one of SPACE; did you mean 'linear'?"),
        ({"family": "linear", "c": 1.0},
         "models.py: FIRST: linear.c: not in SPACE"),
    ],
)  # fmt: skip
def test_a_hand_set_candidate_of_no_known_family_or_hyperparameter_is_named(candidate, line):
    assert refusal([candidate]).startswith(line)


def test_labels_may_be_any_and_a_choice_is_known_by_its_number():
    """Hyperopt's TPE learns from the hand-set candidates under the labels that the space has."""
    families = {
        "lightgbm": {"num_leaves": hp.uniformint("leaves", 3, 15)},
        "linear": {
            "C": hp.loguniform("strength", -4, 2),
            "solver": hp.choice("s", ["lbfgs", "saga"]),
        },
    }
    first = [{"family": "linear", "C": 1.0, "solver": "saga"}]
    searched, candidates = space.searched(Models("binary", families, first), list(families))
    assert candidates == first
    assert searchers.drawn(first[0], searched) == {"strength": 1.0, "s": 1}
    outcomes = search.minimize(lambda c: {"loss": 1.0, "c": c}, searched, first, 12, 1)
    assert {o["c"].get("solver") for o in outcomes} == {None, "lbfgs", "saga"}


def test_a_choice_that_is_not_among_the_options_is_refused():
    families = {"linear": {"solver": hp.choice("s", ["lbfgs", "saga"])}}
    first = [{"family": "linear", "solver": "sag"}]
    assert refusal(first, **families) == (
        "models.py: FIRST: linear.solver: found 'sag', expected one of ['lbfgs', 'saga']"
    )


def test_a_category_of_too_many_levels_for_a_dense_matrix_is_named(monkeypatch):
    memory = SimpleNamespace(total=4 * 2**20)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)
    rows = pd.DataFrame({"x": np.zeros(1000), "city": [f"c{n % 500}" for n in range(1000)]})
    families.require_memory("lightgbm", rows)
    families.require_memory("linear", rows.assign(city="c"))
    with pytest.raises(UserError) as error:
        families.require_memory("linear", rows)
    assert str(error.value) == (
        "params.yaml: tune.families: linear: found 501 columns of 1,000 rows, 0.0 GB, expected at "
        "most 0.0 GB; leave it out, or merge the 500 levels of city"
    )


@pytest.mark.parametrize("rows", [20, 1000, 10**6])
@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_without_a_space_every_family_starts_from_one_that_its_estimator_takes(task, rows):
    wanted = ("lightgbm", "xgboost", "hist_gradient_boosting", "linear")
    searched, first = space.searched(Models(task, {}, []), wanted, rows)
    assert tuple(searched) == tuple(candidate["family"] for candidate in first) == wanted
    few = searched["lightgbm"]
    assert label_bounds(few["min_child_samples"])[1] <= max(rows, 20)


def label_bounds(value):
    """The low and high of a uniform hyperparameter."""
    uniform = next(node for node in dfs(value) if node.name == "quniform")
    arguments = uniform.arg
    return arguments["low"].obj, arguments["high"].obj


@pytest.mark.parametrize("family", ["lightgbm", "xgboost", "hist_gradient_boosting", "linear"])
def test_the_starting_candidate_of_few_rows_is_better_than_a_constant(family):
    rows = load_wine(as_frame=True).frame.sample(60, random_state=0)
    train, test = rows[:40], rows[40:]
    fold = Fold(*(part.drop(columns="target") for part in (train, test)),
                *(part["target"].to_numpy() for part in (train, test)))  # fmt: skip
    _, (candidate,) = space.searched(Models("multiclass", {}, []), (family,), len(train))
    hyperparameters = {key: value for key, value in candidate.items() if key != "family"}
    constant = objective.constant("multiclass", fold.train_target, fold.validation_target)
    assert fold.fit(family, hyperparameters, "multiclass", 1, 1).loss < 0.7 * constant
