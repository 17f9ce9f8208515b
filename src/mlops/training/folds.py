"""Validation folds: each is predicted by a model that saw only the days before it, or, where rows
have no day, only the other folds."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from mlops.base.errors import UserError, one_line
from mlops.contract.dataset import inputs, sample, share, target, validation_starts
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
        try:
            estimator = family.build(task, hyperparameters, seed, threads)
            with threadpool_limits(threads):
                pairs = (train, self.train_target), (validation, self.validation_target)
                rounds = family.fit(estimator, *pairs)
                prediction = families.predict(estimator, task, validation)
        except Exception as error:
            # The libraries check a value only here.
            reason = f"{type(error).__name__}: {one_line(error)}"
            raise UserError(f"models.py: {name} with {hyperparameters}: {reason}") from error
        return Fit(objective.loss(task, self.validation_target, prediction), rounds, prediction)

    def thinned(self, share: float, classes: tuple[str, ...], seed: int) -> Fold:
        """The fold with only a random share of its training rows, of every class alike."""
        rows = max(int(len(self.train) * share), 2)
        kept = sample(self.train_target, rows, classes, seed)
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


def rolling(
    table: pd.DataFrame, spec: Features, classes: tuple[str, ...], split: Split
) -> list[Fold]:
    """The folds: each trains on all the days before its period, earliest first; without days, on
    the other parts of a split by a hash.

    Raises UserError for a fold without rows or with one outcome only, and for classes that a fold
    would have to predict unseen.
    """
    frame, outcome = inputs(table, spec), target(table, spec, classes)
    folds = []
    for place, before, inside in _parts(table, spec, split):
        for part in (before, inside):
            if len(np.unique(outcome[part])) < 2:
                raise UserError(f"{place} has no rows of two outcomes before or in it")
        unseen = np.setdiff1d(np.arange(len(classes)), outcome[before])
        if len(unseen):
            raise UserError(f"{place} has no rows of class {classes[unseen[0]]} before it")
        folds.append(Fold(frame[before], frame[inside], outcome[before], outcome[inside]))
    return folds


def _parts(table: pd.DataFrame, spec: Features, split: Split) -> Iterator[tuple[str, Array, Array]]:
    """For each fold how a refusal of it begins, which rows it trains on, and which it predicts."""
    place = f"params.yaml: split: {split.folds} folds"
    if spec.day is None:
        by = spec.group or spec.key
        # One part of a single fold has to be left to train on.
        parts = max(split.folds, 2)
        number = (share(table[by].map(str), "fold") * parts).astype(int)
        for fold in range(split.folds):
            yield f"{place} by a hash of {by}: number {fold}", number != fold, number == fold
        return
    days, length = table[spec.day].dt.date, dt.timedelta(days=split.validation_days)
    for start in validation_starts(days.max(), split.validation_days, split.folds):
        inside = (days >= start) & (days < start + length)
        name = f"{place} of {split.validation_days} days: the one from {start}"
        yield name, (days < start).to_numpy(), inside.to_numpy()
