"""Optuna's TPE, on the same space: what `hp.*` draws is drawn by Optuna."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from mlops.base.errors import UserError
from mlops.training.searchers import RANDOM_TRIALS, Known, drawn, plain
from mlops.training.space import Candidate, Space, choices, label

# Hyperopt's name of a distribution, and how a trial of Optuna draws from it.
DRAWN_BY: dict[str, Callable[..., float]] = {
    "uniform": lambda trial, name, low, high: trial.suggest_float(name, low, high),
    "quniform": lambda trial, name, low, high, q: trial.suggest_float(name, low, high, step=q),
    "loguniform": lambda trial, name, low, high: trial.suggest_float(
        name, float(np.exp(low)), float(np.exp(high)), log=True
    ),
    "randint": lambda trial, name, low, high=None: trial.suggest_int(
        name, *((0, low - 1) if high is None else (low, high - 1))
    ),
}

ARGUMENTS = ("low", "high", "q")


class Searcher:
    """Within a round, a candidate counts as a bad one until its loss is known."""

    random_trials = RANDOM_TRIALS

    def __init__(self, space: Space, seed: int, known: Known) -> None:
        import optuna

        for family, own in space.items():
            for key, value in own.items():
                _require_translated(f"{family}.{key}", value)
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        sampler = optuna.samplers.TPESampler(
            seed=seed, n_startup_trials=RANDOM_TRIALS, constant_liar=True
        )
        self._study = optuna.create_study(sampler=sampler)
        self._space = space
        for candidate, _ in known:
            self._study.enqueue_trial({"family": candidate["family"], **drawn(candidate, space)})
        self.propose(len(known))
        self.tell([loss for _, loss in known])

    def propose(self, count: int) -> list[Candidate]:
        """The candidates of the next round."""
        self._round = [self._study.ask() for _ in range(count)]
        return [_candidate(trial, self._space) for trial in self._round]

    def tell(self, losses: list[float]) -> None:
        """Learn the losses of the last round's candidates."""
        for trial, loss in zip(self._round, losses, strict=True):
            self._study.tell(trial, loss)


def _candidate(trial: Any, space: Space) -> Candidate:
    from hyperopt import space_eval

    family = trial.suggest_categorical("family", list(space))
    values = {}
    for value in space[family].values():
        if name := label(value):
            options = range(len(choices(value)))
            if options:
                values[name] = trial.suggest_categorical(name, list(options))
            else:
                kind, arguments = _distribution(value)
                values[name] = DRAWN_BY[kind](trial, name, **arguments)
    return plain(space_eval({"family": family, **space[family]}, values))


def _distribution(value: Any) -> tuple[str, dict[str, Any]]:
    """The name and the arguments of the one distribution in an expression of Hyperopt."""
    from hyperopt.pyll.base import MissingArgument, dfs

    node = next(node for node in dfs(value) if node.name == "hyperopt_param").pos_args[1]
    given = {k: v.obj for k, v in node.arg.items() if v is not MissingArgument and k in ARGUMENTS}
    return node.name, given


def _require_translated(place: str, value: Any) -> None:
    if label(value) and not choices(value) and (kind := _distribution(value)[0]) not in DRAWN_BY:
        raise UserError(
            f"models.py: SPACE: {place}: found hp.{kind}, which tune.searcher 'optuna' can't draw; "
            f"expected one of hp.{', hp.'.join(DRAWN_BY)}, hp.uniformint, hp.choice"
        )
