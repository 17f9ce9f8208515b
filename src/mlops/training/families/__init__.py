"""Model families, a module each: how one is built, fitted with early stopping, and prepared.

A module has `build(task, hyperparameters, seed, threads)`, which gives an unfitted scikit-learn
estimator; `fit(estimator, train, validation)`, which fits it and gives the number of rounds that
early stopping chose, or None; `ENCODING`, how its columns are prepared (see `encoder`); and
`ROUNDS`, the hyperparameter that holds the number of rounds, or None. One that Spark can fit on
several workers has `fit_on_spark(task, hyperparameters, seed, rows, workers)` too: `rows` is a
DataFrame of `features`, an array of float32, and `outcome`, in `workers` partitions; it gives the
fitted scikit-learn estimator.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import psutil

from mlops.base.errors import UserError
from mlops.contract import extensions
from mlops.contract.project import Task

if TYPE_CHECKING:
    import pandas as pd

# Rounds without any gain after which early stopping ends a fit.
STOPPING_ROUNDS = 25
# A dense matrix may take one part in so many of the memory: the libraries copy it.
MEMORY_SHARE = 4

# OpenMP reads it when it is loaded. Threads that spin while they wait make a fit several times
# slower as soon as anything else wants a core; threads that sleep cost nothing when nothing does.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

Array = np.ndarray[Any, np.dtype[Any]]
Pair = tuple[Array, Array]
Encoding = Literal["ordinal", "dense"]


def family(name: str) -> Any:
    """The family of a name, a module's path or scikit-learn's dotted name of an estimator.

    Raises UserError with the nearest known one.
    """
    setting = "params.yaml: tune.families"
    from mlops.training.families import scikit_learn

    if name.startswith(scikit_learn.PREFIX):
        return scikit_learn.estimator(setting, name)
    return extensions.resolve(setting, name, __name__, ("build", "fit", "ENCODING", "ROUNDS"))


def require_distributed(names: Iterable[str], workers: int) -> None:
    """Raise UserError for a family that can't be fitted on several workers, if it would be."""
    for name in names if workers > 1 else ():
        if not hasattr(family(name), "fit_on_spark"):
            raise UserError(
                f"params.yaml: train.workers: found {workers}, but {name} of tune.families can't "
                "be fitted on several; expected 1, or xgboost alone or modules with fit_on_spark"
            )


def encoder(encoding: Encoding, frame: pd.DataFrame) -> Any:
    """An unfitted ColumnTransformer from named columns to one float32 matrix.

    `ordinal` turns categories into their rank and keeps missing numbers, for trees that know
    them; `dense` fills, scales and one-hot encodes.
    """
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


def require_memory(name: str, frame: pd.DataFrame) -> None:
    """Raise UserError where a family's dense matrix of the frame's rows is too large."""
    from mlops.contract.dataset import categories

    if family(name).ENCODING != "dense":
        return
    levels = {column: int(frame[column].nunique()) for column in categories(frame)}
    columns = len(frame.columns) - len(levels) + sum(levels.values())
    size, most = len(frame) * columns * 4, psutil.virtual_memory().total // MEMORY_SHARE
    if size > most:
        widest = max(levels, key=lambda column: levels[column], default="")
        merge = f", or merge the {levels[widest]:,} levels of {widest}" if widest else ""
        raise UserError(
            f"params.yaml: tune.families: {name}: found {columns:,} columns of {len(frame):,} "
            f"rows, {size / 1e9:.1f} GB, expected at most {most / 1e9:.1f} GB; leave it out{merge}"
        )


def predict(estimator: Any, task: Task, matrix: Array) -> Array:
    """Probability of the positive class (n,), of each class (n, k), or the value (n,)."""
    if task == "regression":
        return np.asarray(estimator.predict(matrix), dtype=np.float64)
    probabilities = np.asarray(estimator.predict_proba(matrix), dtype=np.float64)
    return probabilities[:, 1] if task == "binary" else probabilities
