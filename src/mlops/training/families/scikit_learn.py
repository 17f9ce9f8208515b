"""Any classifier or regressor of scikit-learn, by its dotted name: `sklearn.svm.NuSVR`."""

from __future__ import annotations

import importlib
import inspect
from dataclasses import dataclass
from functools import cache
from typing import Any

from mlops.base.errors import UserError, nearest
from mlops.contract.project import Task
from mlops.training.families import Encoding, Pair

PREFIX = "sklearn."


@dataclass(frozen=True)
class Estimator:
    """A family as a module is one, without rounds that could be stopped early."""

    kind: type
    ENCODING: Encoding = "dense"
    ROUNDS: None = None

    def build(self, task: Task, hyperparameters: dict[str, Any], seed: int, threads: int) -> Any:
        """An unfitted estimator; raises ValueError for one of another task."""
        from sklearn.base import is_classifier, is_regressor

        regression = task == "regression"
        known = inspect.signature(self.kind).parameters
        own = {"random_state": seed, "n_jobs": threads}
        estimator = self.kind(**{k: v for k, v in own.items() if k in known} | hyperparameters)
        if not (is_regressor if regression else is_classifier)(estimator):
            role = "regressor" if regression else "classifier"
            raise ValueError(f"found {self.kind.__name__}, expected a {role} for a {task} task")
        if not regression and not hasattr(estimator, "predict_proba"):
            raise ValueError(f"{self.kind.__name__}: has no predict_proba with these arguments")
        return estimator

    def fit(self, estimator: Any, train: Pair, validation: Pair | None) -> None:
        """Fit it on all rows."""
        estimator.fit(*train)


@cache
def estimator(setting: str, name: str) -> Estimator:
    """The family of a dotted name; raises UserError, with the nearest name, for an unknown one."""
    place, _, kind = name.rpartition(".")
    try:
        module = importlib.import_module(place)
    except ImportError:
        raise UserError(f"{setting}: found {name!r}, no such module of scikit-learn") from None
    found = getattr(module, kind, None)
    if not inspect.isclass(found) or not hasattr(found, "fit"):
        classes = [key for key, value in vars(module).items() if hasattr(value, "fit")]
        raise UserError(f"{setting}: {place}: no estimator {kind!r}{nearest(kind, classes)}")
    return Estimator(found)
