"""Score one rival in the current folder: `ours`, `flaml SECONDS` or `lightgbm`; prints JSON.

Each is judged alike: fitted anew before every validation period and on all training rows before
the holdout, with the hyperparameters that it chose and nothing left to stop early. All see the
same features and the same threads; FLAML chooses on the same rolling periods as our search.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mlops.contract import bundle, dataset, params, project
from mlops.contract.paths import BUNDLE, FEATURES, SEARCH
from mlops.contract.winner import Tuned
from mlops.training import families
from mlops.training.folds import Array, Fold, rolling
from mlops.training.params import Params

if TYPE_CHECKING:
    import pandas as pd

# Fits on a frame and its outcomes; gives the probability of each row of another frame.
Fitted = Callable[["pd.DataFrame", Array, "pd.DataFrame"], Array]


@dataclass(frozen=True)
class Problem:
    """The rows to learn from, the rows held out, and the parameters of both."""

    params: Params

    @cached_property
    def folds(self) -> list[Fold]:
        training = dataset.read(FEATURES / dataset.TRAINING)
        return rolling(training, self._spec, "binary", self.params.split)

    @cached_property
    def training(self) -> tuple[pd.DataFrame, Array]:
        return self._part(dataset.TRAINING)

    @cached_property
    def holdout(self) -> tuple[pd.DataFrame, Array]:
        return self._part(dataset.HOLDOUT)

    @property
    def _spec(self) -> project.Features:
        return project.features(self.params.project)

    def _part(self, name: str) -> tuple[pd.DataFrame, Array]:
        table = dataset.read(FEATURES / name)
        outcome = dataset.target(table, self._spec, "binary")
        return dataset.inputs(table, self._spec), outcome.to_numpy()


def ours(problem: Problem) -> dict[str, float]:
    """What `tune` chose on the validation periods; on the holdout, the bundle as it ships."""
    from threadpoolctl import threadpool_limits

    tuned = Tuned.load(SEARCH)
    family = families.family(tuned.family)

    def fitted(frame: pd.DataFrame, outcome: Array, other: pd.DataFrame) -> Array:
        knobs = problem.params
        estimator = family.build("binary", tuned.hyperparameters, knobs.seed, knobs.threads)
        encoder = families.encoder(family.encoding, frame)
        matrix = encoder.fit_transform(frame).astype(np.float32)
        with threadpool_limits(knobs.threads):
            family.fit(estimator, (matrix, outcome), None)
        return families.predict(estimator, "binary", encoder.transform(other).astype(np.float32))

    shipped = bundle.Scorer(BUNDLE).predict(problem.holdout[0])
    return {"validation": _validation(problem, fitted), "holdout": _auc(problem, shipped)}


def flaml(problem: Problem, seconds: float) -> dict[str, float]:
    """The best configuration that FLAML's AutoML finds in the seconds given."""
    from flaml.automl.automl import AutoML

    automl = AutoML()
    automl.fit(
        *problem.training,
        task="classification",
        metric="roc_auc",
        eval_method="cv",
        split_type=Rolling(problem.folds),
        time_budget=seconds,
        n_jobs=problem.params.threads,
        seed=problem.params.seed,
        verbose=0,
    )

    def fitted(frame: pd.DataFrame, outcome: Array, other: pd.DataFrame) -> Array:
        automl.model.fit(automl.preprocess(frame), outcome)
        return np.asarray(automl.model.predict_proba(automl.preprocess(other)))[:, 1]

    return _both(problem, fitted)


def lightgbm(problem: Problem) -> dict[str, float]:
    """LightGBM as it comes."""
    from lightgbm import LGBMClassifier

    knobs = problem.params

    def fitted(frame: pd.DataFrame, outcome: Array, other: pd.DataFrame) -> Array:
        encoder = families.encoder("ordinal", frame)
        model = LGBMClassifier(random_state=knobs.seed, n_jobs=knobs.threads, verbosity=-1)
        model.fit(encoder.fit_transform(frame), outcome)
        return np.asarray(model.predict_proba(encoder.transform(other)))[:, 1]

    return _both(problem, fitted)


@dataclass(frozen=True)
class Rolling:
    """The rolling periods as scikit-learn's splitters give them: positions of the training rows.

    Training rows are in the order of their days, so a period follows the rows before it.
    """

    folds: list[Fold]
    shuffle: bool = False

    def get_n_splits(self, *ignored: Any) -> int:
        return len(self.folds)

    def split(self, X: Any, *ignored: Any) -> Iterator[tuple[Array, Array]]:
        for fold in self.folds:
            before, inside = len(fold.train), len(fold.validation)
            yield np.arange(before), np.arange(before, before + inside)


def _both(problem: Problem, fitted: Fitted) -> dict[str, float]:
    validation = _validation(problem, fitted)
    holdout = fitted(*problem.training, problem.holdout[0])
    return {"validation": validation, "holdout": _auc(problem, holdout)}


def _validation(problem: Problem, fitted: Fitted) -> float:
    """Mean ROC AUC over the rolling periods, each predicted from the days before it."""
    from sklearn.metrics import roc_auc_score

    scores = []
    for fold in problem.folds:
        prediction = fitted(fold.train, fold.train_target, fold.validation)
        scores.append(roc_auc_score(fold.validation_target, prediction))
    return float(np.mean(scores))


def _auc(problem: Problem, prediction: Array) -> float:
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(problem.holdout[1], prediction))


if __name__ == "__main__":
    name, *numbers = sys.argv[1:]
    rival: Any = {"ours": ours, "flaml": flaml, "lightgbm": lightgbm}[name]
    print(json.dumps(rival(Problem(params.load_all(Path())), *map(float, numbers))))
