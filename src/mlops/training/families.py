"""The table of model families: how each is built, fitted with early stopping, and prepared.

Every family sees float32 numbers and strings. `ordinal` turns categories into their rank and
keeps missing numbers for trees that know them; `dense` fills, scales and one-hot encodes.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from mlops.base.errors import UserError, nearest
from mlops.contract.project import Task

if TYPE_CHECKING:
    import pandas as pd

PATIENCE = 25

# OpenMP reads it when it is loaded. Threads that spin while they wait make a fit several times
# slower as soon as anything else wants a core; threads that sleep cost nothing when nothing does.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

Array = np.ndarray[Any, np.dtype[Any]]
Pair = tuple[Array, Array]


@dataclass(frozen=True)
class Family:
    """One row of the table.

    `build(task, hyperparameters, seed, threads)` gives an unfitted scikit-learn estimator,
    `fit(estimator, train, validation)` fits it and gives the number of rounds that early
    stopping chose; `rounds` names the hyperparameter that holds it, where there is one.
    """

    build: Callable[[Task, dict[str, Any], int, int], Any]
    fit: Callable[[Any, Pair, Pair | None], int | None]
    encoding: Literal["ordinal", "dense"]
    rounds: str | None = None


def family(name: str) -> Family:
    """One family by name; UserError names the nearest known one."""
    if name not in FAMILIES:
        known = ", ".join(FAMILIES)
        hint = nearest(name, FAMILIES) or f"; known: {known}"
        raise UserError(f"params.yaml: tune.families: found {name!r}{hint}")
    return FAMILIES[name]


def encoder(encoding: Literal["ordinal", "dense"], frame: pd.DataFrame) -> Any:
    """An unfitted ColumnTransformer from named columns to one float32 matrix."""
    from sklearn.compose import ColumnTransformer
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler

    from mlops.contract.dataset import categories

    categorical = categories(frame)
    numeric = [name for name in frame if name not in categorical]
    if encoding == "ordinal":
        ranks = OrdinalEncoder(
            handle_unknown="use_encoded_value", unknown_value=-1, dtype=np.float32
        )
        steps = [("numeric", "passthrough", numeric), ("categorical", ranks, categorical)]
    else:
        # A column without any value is kept: the export counts on every column.
        median = SimpleImputer(strategy="median", keep_empty_features=True)
        fill = make_pipeline(median, StandardScaler())
        columns = OneHotEncoder(handle_unknown="ignore", sparse_output=False, dtype=np.float32)
        steps = [("numeric", fill, numeric), ("categorical", columns, categorical)]
    return ColumnTransformer([step for step in steps if step[2]], sparse_threshold=0)


def predict(estimator: Any, task: Task, matrix: Array) -> Array:
    """Probability of the positive class (n,), of each class (n, k), or the value (n,)."""
    if task == "regression":
        return np.asarray(estimator.predict(matrix), dtype=np.float64)
    probabilities = np.asarray(estimator.predict_proba(matrix), dtype=np.float64)
    return probabilities[:, 1] if task == "binary" else probabilities


def _lightgbm(task: Task, hyperparameters: dict[str, Any], seed: int, threads: int) -> Any:
    import lightgbm

    kind = lightgbm.LGBMRegressor if task == "regression" else lightgbm.LGBMClassifier
    return kind(
        **hyperparameters,
        random_state=seed,
        n_jobs=threads,
        deterministic=True,
        force_row_wise=True,
        verbosity=-1,
    )


def _fit_lightgbm(estimator: Any, train: Pair, validation: Pair | None) -> int | None:
    if validation is None:
        estimator.fit(*train)
        return None
    import lightgbm

    estimator.fit(
        *train,
        eval_X=validation[0],
        eval_y=validation[1],
        callbacks=[lightgbm.early_stopping(PATIENCE, first_metric_only=True, verbose=False)],
    )
    return int(estimator.best_iteration_)


def _xgboost(task: Task, hyperparameters: dict[str, Any], seed: int, threads: int) -> Any:
    import xgboost

    kind = xgboost.XGBRegressor if task == "regression" else xgboost.XGBClassifier
    return kind(
        **hyperparameters, random_state=seed, n_jobs=threads, tree_method="hist", verbosity=0
    )


def _fit_xgboost(estimator: Any, train: Pair, validation: Pair | None) -> int | None:
    if validation is None:
        estimator.fit(*train)
        return None
    estimator.set_params(early_stopping_rounds=PATIENCE)
    estimator.fit(*train, eval_set=[validation], verbose=False)
    return int(estimator.best_iteration) + 1


def _hist(task: Task, hyperparameters: dict[str, Any], seed: int, threads: int) -> Any:
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    regression = task == "regression"
    kind = HistGradientBoostingRegressor if regression else HistGradientBoostingClassifier
    return kind(**hyperparameters, random_state=seed, early_stopping=False)


def _fit_hist(estimator: Any, train: Pair, validation: Pair | None) -> int | None:
    if validation is None:
        estimator.fit(*train)
        return None
    estimator.set_params(early_stopping=True, n_iter_no_change=PATIENCE)
    estimator.fit(*train, X_val=validation[0], y_val=validation[1])
    return int(np.argmax(estimator.validation_score_)) or 1


def _linear(task: Task, hyperparameters: dict[str, Any], seed: int, threads: int) -> Any:
    if task == "regression":
        from sklearn.linear_model import Ridge

        return Ridge(**hyperparameters, random_state=seed)
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(**hyperparameters, random_state=seed)


def _fit_whole(estimator: Any, train: Pair, validation: Pair | None) -> int | None:
    estimator.fit(*train)
    return None


FAMILIES: dict[str, Family] = {
    "lightgbm": Family(_lightgbm, _fit_lightgbm, "ordinal", rounds="n_estimators"),
    "xgboost": Family(_xgboost, _fit_xgboost, "ordinal", rounds="n_estimators"),
    "hist_gradient_boosting": Family(_hist, _fit_hist, "ordinal", rounds="max_iter"),
    "linear": Family(_linear, _fit_whole, "dense"),
}
