"""Each validation period is judged by a model that saw only the days before it."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from mlops.base.errors import UserError
from mlops.contract import dataset
from mlops.contract.project import Features
from mlops.data.params import Split
from mlops.training import folds

SPEC = Features(
    build=dict, key="id", day="day", target="y", features={"age": "day", "word": "category"},
    slices=(), baseline="age",
)  # fmt: skip
SPLIT = Split(holdout_days=1, validation_days=10, folds=3)


def rolling(rows, task="binary", split=SPLIT, spec=SPEC):
    return folds.rolling(rows, spec, dataset.classes(rows, spec, task), split)


def table(days=60, classes=2):
    """Four rows a day, whose only number is the day's."""
    number = np.repeat(np.arange(days), 4)
    return pd.DataFrame(
        {
            "id": np.arange(len(number)).astype(str),
            "day": pd.Timestamp("2020-01-01") + pd.to_timedelta(number, unit="D"),
            "y": np.arange(len(number)) % classes,
            "age": number.astype("float32"),
            "word": np.where(number % 2, "odd", "even"),
        }
    )


def test_training_ends_the_day_before_validation_starts():
    periods = rolling(table())
    bounds = [
        (f.train["age"].min(), f.train["age"].max(), f.validation["age"].min(),
         f.validation["age"].max())
        for f in periods
    ]  # fmt: skip
    assert bounds == [(0, 29, 30, 39), (0, 39, 40, 49), (0, 49, 50, 59)]


def test_categories_of_the_validation_period_are_not_learnt():
    rows = table()
    rows.loc[rows["age"] >= 50, "word"] = "new"
    fold = rolling(rows)[-1]
    train, validation = fold.encoded("ordinal")
    assert set(train[:, 1]) == {0, 1}
    assert set(validation[:, 1]) == {-1}


def test_a_thinned_fold_keeps_its_share_of_each_class_and_its_whole_validation():
    fold = rolling(table())[-1]
    thin = fold.thinned(0.25, ("0", "1"), 1)
    assert len(thin.train) == len(fold.train) // 4
    assert np.bincount(thin.train_target).tolist() == [25, 25]
    assert thin.train["age"].nunique() > 30
    assert len(thin.validation) == len(fold.validation)


def test_a_first_look_sees_every_store_of_rows_that_repeat():
    """Five stores a day, ordered: every fifth row would be of the same one."""
    rows = pd.DataFrame({"store": list("ABCDE") * 560})
    outcome = np.zeros(2800, dtype=int)
    thin = folds.Fold(rows, rows, outcome, outcome).thinned(0.2, ("0",), 1)
    fifths = pd.cut(thin.train.index, 5, labels=False)
    seen = pd.crosstab(fifths, thin.train["store"].to_numpy())
    assert seen.shape == (5, 5)
    assert seen.to_numpy().min() >= 10


def test_a_first_look_has_rare_positives_when_there_are_any():
    outcome = np.zeros(3000, dtype=int)
    outcome[[17, 1500]] = 1
    rows = pd.DataFrame({"x": np.zeros(3000)})
    thin = folds.Fold(rows, rows, outcome, outcome).thinned(0.05, ("0", "1"), 1)
    assert thin.train_target.sum() == 2


def test_rows_without_a_day_are_split_by_a_hash_that_keeps_groups_whole():
    rows = table().drop(columns="day").assign(home=lambda t: "h" + (t.index // 8).astype(str))
    spec = dataclasses.replace(SPEC, day=None, group="home")
    parts = rolling(rows, spec=spec)
    places = [set(rows["home"][fold.validation.index]) for fold in parts]
    assert len(parts) == 3
    assert set.union(*places) == set(rows["home"])
    assert sum(map(len, places)) == rows["home"].nunique()
    for fold, place in zip(parts, places, strict=True):
        assert not place & set(rows["home"][fold.train.index])
    reversed_rows = rolling(rows[::-1], spec=spec)
    assert set(reversed_rows[0].validation.index) == set(parts[0].validation.index)


def test_a_fit_that_a_library_refuses_is_one_line_with_the_hyperparameters():
    fold = rolling(table())[-1]
    with pytest.raises(UserError, match="^models.py: lightgbm with .*: LightGBMError: "):
        fold.fit("lightgbm", {"num_leaves": 1}, "binary", 1, 1)
    with pytest.raises(UserError, match=r"^models.py: linear with \{'C': -1.0\}: InvalidParam"):
        fold.fit("linear", {"C": -1.0}, "binary", 1, 1)


def test_a_fit_is_the_same_twice_and_stops_early():
    fold = rolling(table())[-1]
    hyperparameters = {"n_estimators": 300, "num_leaves": 3, "min_child_samples": 2}
    one, two = (fold.fit("lightgbm", hyperparameters, "binary", 1, 1) for _ in range(2))
    assert one.loss == two.loss
    assert (one.prediction == two.prediction).all()
    assert one.rounds is not None
    assert one.rounds < 300


def with_classes(*classes):
    return table().assign(y=lambda t: np.resize(classes, len(t)))


@pytest.mark.parametrize(
    ("task", "rows", "said"),
    [
        ("binary", table(days=30), "has no rows of two outcomes"),
        ("binary", table().assign(y=1), "y: found 1; expected two classes"),
        ("binary", table().assign(y=lambda t: t["y"].where(t["age"] < 50, 1)),
         "the one from 2020-02-20 has no rows of two outcomes"),
        ("binary", with_classes(0, 1, 2), "y: found 0, 1, 2; expected two classes"),
        ("multiclass",
         table().assign(y=lambda t: np.where((t["age"] > 55) & (t["y"] == 1), 2, t["y"])),
         "2020-01-31 has no rows of class 2 before it"),
    ],
)  # fmt: skip
def test_rows_that_a_model_cannot_be_judged_on_are_named(task, rows, said):
    with pytest.raises(UserError, match=said):
        rolling(rows, task)
