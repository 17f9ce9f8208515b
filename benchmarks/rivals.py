"""Score one rival in the current folder: `ours`, `flaml SECONDS` or `lightgbm`; prints JSON.

Each is judged alike: fitted anew before every validation period and on all training rows before
the holdout, with the hyperparameters that it chose and nothing left to stop early. All see the
same features and the same threads; FLAML chooses on the same rolling periods as our search.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mlops.contract import bundle, dataset, params, project
from mlops.contract.paths import BUNDLE, FEATURES, SEARCH
from mlops.contract.result import Tuned
from mlops.training import families
from mlops.training.folds import Array, Fold, rolling
from mlops.training.params import Params

if TYPE_CHECKING:
    import pandas as pd

CLASSES = ("0", "1")
# Fits on a frame and its outcomes; gives the probability of each row of another frame.
Fitted = Callable[["pd.DataFrame", Array, "pd.DataFrame"], Array]


@dataclass(frozen=True)
class Problem:
    """The rows to learn from, the rows held out, and the parameters of both."""

    params: Params

    @cached_property
    def folds(self) -> list[Fold]:
        training = dataset.read(FEATURES / dataset.TRAINING)
        spec = project.features(self.params.project)
        return rolling(training, spec, CLASSES, self.params.split)

    def part(self, name: str) -> tuple[pd.DataFrame, Array]:
        """The inputs and the outcomes of one of the tables of features."""
        table, spec = dataset.read(FEATURES / name), project.features(self.params.project)
        return dataset.inputs(table, spec), dataset.target(table, spec, CLASSES)

    def scores(self, fitted: Fitted, shipped: Array | None = None) -> dict[str, float]:
        """Mean ROC AUC over the rolling periods, each predicted from the days before it; holdout's.

        `shipped` is a prediction of the holdout that takes the place of a fitted one.
        """
        from sklearn.metrics import roc_auc_score

        validation = [
            roc_auc_score(f.validation_target, fitted(f.train, f.train_target, f.validation))
            for f in self.folds
        ]
        holdout, outcome = self.part(dataset.HOLDOUT)
        if shipped is None:
            shipped = fitted(*self.part(dataset.TRAINING), holdout)
        return {
            "validation": float(np.mean(validation)),
            "holdout": float(roc_auc_score(outcome, shipped)),
        }


def ours(problem: Problem) -> dict[str, float]:
    """What `tune` chose on the validation periods; on the holdout, the bundle as it ships."""
    from threadpoolctl import threadpool_limits

    tuned = Tuned.load(SEARCH)
    family = families.family(tuned.family)

    def fitted(frame: pd.DataFrame, outcome: Array, other: pd.DataFrame) -> Array:
        knobs = problem.params
        estimator = family.build("binary", tuned.hyperparameters, knobs.seed, knobs.threads)
        encoder = families.encoder(family.ENCODING, frame)
        matrix = encoder.fit_transform(frame).astype(np.float32)
        with threadpool_limits(knobs.threads):
            family.fit(estimator, (matrix, outcome), None)
        return families.predict(estimator, "binary", encoder.transform(other).astype(np.float32))

    shipped = bundle.Scorer(BUNDLE).predict(problem.part(dataset.HOLDOUT)[0])
    return problem.scores(fitted, shipped)


def flaml(problem: Problem, seconds: float) -> dict[str, float]:
    """The best configuration that FLAML's AutoML finds in the seconds given."""
    from flaml.automl.automl import AutoML
    from sklearn.model_selection import check_cv

    # Training rows are in the order of their days, so a period follows the rows before it.
    ends = [(len(fold.train), len(fold.train) + len(fold.validation)) for fold in problem.folds]
    splits: Any = check_cv([(np.arange(start), np.arange(start, end)) for start, end in ends])
    splits.shuffle = False
    automl = AutoML()
    automl.fit(
        *problem.part(dataset.TRAINING),
        task="classification",
        metric="roc_auc",
        eval_method="cv",
        split_type=splits,
        time_budget=seconds,
        n_jobs=problem.params.threads,
        seed=problem.params.seed,
        verbose=0,
    )

    def fitted(frame: pd.DataFrame, outcome: Array, other: pd.DataFrame) -> Array:
        automl.model.fit(automl.preprocess(frame), outcome)
        return np.asarray(automl.model.predict_proba(automl.preprocess(other)))[:, 1]

    return problem.scores(fitted)


def lightgbm(problem: Problem) -> dict[str, float]:
    """LightGBM as it comes."""
    from lightgbm import LGBMClassifier

    knobs = problem.params

    def fitted(frame: pd.DataFrame, outcome: Array, other: pd.DataFrame) -> Array:
        encoder = families.encoder("ordinal", frame)
        model = LGBMClassifier(random_state=knobs.seed, n_jobs=knobs.threads, verbosity=-1)
        model.fit(encoder.fit_transform(frame), outcome)
        return np.asarray(model.predict_proba(encoder.transform(other)))[:, 1]

    return problem.scores(fitted)


if __name__ == "__main__":
    name, *numbers = sys.argv[1:]
    rival: Any = {"ours": ours, "flaml": flaml, "lightgbm": lightgbm}[name]
    print(json.dumps(rival(Problem(params.load_all(Path())), *map(float, numbers))))
