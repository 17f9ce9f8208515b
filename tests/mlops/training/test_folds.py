"""Each validation period is judged by a model that saw only the days before it."""

import numpy as np
import pandas as pd
import pytest

from mlops.base.errors import UserError
from mlops.contract.project import Features
from mlops.data.params import Split
from mlops.training import folds

SPEC = Features(
    build=dict, key="id", day="day", target="y", features={"age": "day", "word": "category"},
    slices=(), baseline="age",
)  # fmt: skip
SPLIT = Split(holdout_days=1, validation_days=10, folds=3)


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
    rolling = folds.rolling(table(), SPEC, "binary", SPLIT)
    bounds = [
        (f.train["age"].min(), f.train["age"].max(), f.validation["age"].min(),
         f.validation["age"].max())
        for f in rolling
    ]  # fmt: skip
    assert bounds == [(0, 29, 30, 39), (0, 39, 40, 49), (0, 49, 50, 59)]


def test_categories_of_the_validation_period_are_not_learnt():
    rows = table()
    rows.loc[rows["age"] >= 50, "word"] = "new"
    fold = folds.rolling(rows, SPEC, "binary", SPLIT)[-1]
    train, validation = fold.encoded("ordinal")
    assert set(train[:, 1]) == {0, 1}
    assert set(validation[:, 1]) == {-1}


def test_a_thinned_fold_keeps_its_share_over_all_days_and_its_whole_validation():
    fold = folds.rolling(table(), SPEC, "binary", SPLIT)[-1]
    thin = fold.thinned(0.25)
    assert len(thin.train) == len(fold.train) // 4
    assert (thin.train["age"].min(), thin.train["age"].max()) == (0, 49)
    assert len(thin.validation) == len(fold.validation)
    assert len(thin.train_target) == len(thin.train)


def test_a_fit_is_the_same_twice_and_stops_early():
    fold = folds.rolling(table(), SPEC, "binary", SPLIT)[-1]
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
        ("binary", table().assign(y=1), "has no rows of two outcomes"),
        ("binary", table().assign(y=lambda t: t["y"].where(t["age"] < 50, 1)),
         "the one from 2020-02-20 has no rows of two outcomes"),
        ("binary", with_classes(1, 2), "y: found 1, 2; expected 0, 1"),
        ("binary", with_classes(0, 1, 2), "y: found 0, 1, 2; expected 0, 1"),
        ("multiclass", with_classes(0, 2), "y: found 0, 2; expected 0, 1"),
        ("multiclass",
         table().assign(y=lambda t: np.where((t["age"] > 55) & (t["y"] == 1), 2, t["y"])),
         "2020-01-31 has no rows of class 2 before it"),
    ],
)  # fmt: skip
def test_rows_that_a_model_cannot_be_judged_on_are_named(task, rows, said):
    with pytest.raises(UserError, match=said):
        folds.rolling(rows, SPEC, task, SPLIT)
