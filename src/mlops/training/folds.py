"""Rolling validation periods: each is predicted by a model that saw only the days before it."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from mlops.base.errors import UserError
from mlops.contract.dataset import inputs, target, validation_starts
from mlops.contract.project import Features, Task
from mlops.data.params import Split
from mlops.training import families, objective

if TYPE_CHECKING:
    import pandas as pd

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Fit:
    """What one fit on one fold gave: its loss, its rounds and its prediction of the fold."""

    loss: float
    rounds: int | None
    prediction: Array


@dataclass(frozen=True)
class Fold:
    """The rows before a validation period, and the rows in it."""

    train: pd.DataFrame
    validation: pd.DataFrame
    train_target: Array
    validation_target: Array
    _encoded: dict[families.Encoding, tuple[Array, Array]] = field(default_factory=dict)

    def fit(
        self, name: str, hyperparameters: dict[str, Any], task: Task, seed: int, threads: int
    ) -> Fit:
        """Fit one family on the fold, with early stopping where the family has it."""
        from threadpoolctl import threadpool_limits

        family = families.family(name)
        train, validation = self.encoded(family.ENCODING)
        estimator = family.build(task, hyperparameters, seed, threads)
        with threadpool_limits(threads):
            rounds = family.fit(
                estimator, (train, self.train_target), (validation, self.validation_target)
            )
            prediction = families.predict(estimator, task, validation)
        return Fit(objective.loss(task, self.validation_target, prediction), rounds, prediction)

    def thinned(self, share: float) -> Fold:
        """The fold with only a share of its training rows, evenly spread over the days."""
        kept = np.unique(
            np.linspace(0, len(self.train) - 1, int(len(self.train) * share), dtype=int)
        )
        return Fold(
            self.train.iloc[kept], self.validation, self.train_target[kept], self.validation_target
        )

    def encoded(self, encoding: families.Encoding) -> tuple[Array, Array]:
        """Both matrices as an encoding prepares them; made once."""
        if encoding not in self._encoded:
            encoder = families.encoder(encoding, self.train)
            train = encoder.fit_transform(self.train).astype(np.float32)
            validation = encoder.transform(self.validation).astype(np.float32)
            self._encoded[encoding] = train, validation
        return self._encoded[encoding]


def rolling(table: pd.DataFrame, spec: Features, task: Task, split: Split) -> list[Fold]:
    """The folds, earliest first; each trains on all the days before its period.

    Raises UserError for a fold without rows or with one outcome only, and for classes that are
    not numbered from 0 or that a fold would have to predict unseen.
    """
    days = table[spec.day].dt.date
    frame, outcome = inputs(table, spec), target(table, spec, task).to_numpy()
    classes = _classes(outcome, spec, task)
    length = dt.timedelta(days=split.validation_days)
    folds = []
    for start in validation_starts(days.max(), split.validation_days, split.folds):
        before = (days < start).to_numpy()
        inside = ((days >= start) & (days < start + length)).to_numpy()
        place = f"params.yaml: split: {split.folds} folds of {split.validation_days} days"
        for part in (before, inside):
            if len(np.unique(outcome[part])) < 2:
                raise UserError(
                    f"{place}: the one from {start} has no rows of two outcomes before or in it"
                )
        unseen = np.setdiff1d(classes, outcome[before])
        if len(unseen):
            raise UserError(
                f"{place}: the one from {start} has no rows of class {unseen[0]} before it"
            )
        folds.append(Fold(frame[before], frame[inside], outcome[before], outcome[inside]))
    return folds


def _classes(outcome: Array, spec: Features, task: Task) -> Array:
    """The classes of the target; none for a regression."""
    if task == "regression":
        return outcome[:0]
    classes = np.unique(outcome)
    expected = np.arange(2 if task == "binary" else max(2, len(classes)))
    # A single class is reported by its fold.
    if len(classes) > 1 and not np.array_equal(classes, expected):
        found, wanted = (", ".join(map(str, numbers)) for numbers in (classes, expected))
        raise UserError(f"features: {spec.target}: found {found}; expected {wanted} ({task})")
    return classes
