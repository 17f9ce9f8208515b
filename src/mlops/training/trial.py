"""One trial of the search: a candidate, judged on the validation periods."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mlops.contract.project import Task
from mlops.training import families
from mlops.training.folds import Fit, Fold


@dataclass(frozen=True)
class Trial:
    """Score one candidate: a cheap first look, then every validation period."""

    folds: list[Fold]
    glimpse: Fold
    task: Task
    seed: int
    threads: int
    worst_first_look: float = float("inf")

    def fit(self, fold: Fold, family: str, hyperparameters: dict[str, Any]) -> Fit:
        """Fit a family on one fold."""
        return fold.fit(family, hyperparameters, self.task, self.seed, self.threads)

    def __call__(self, candidate: dict[str, Any]) -> dict[str, Any]:
        family, hyperparameters = split(candidate)
        look = self.fit(self.glimpse, family, hyperparameters)
        outcome = {"family": family, "hyperparameters": hyperparameters, "first_look": look.loss}
        if look.loss > self.worst_first_look:
            return {**outcome, "loss": look.loss, "given_up": True}
        fits = [self.fit(fold, family, hyperparameters) for fold in self.folds]
        losses = [fit.loss for fit in fits]
        return {
            **outcome,
            "hyperparameters": _final(family, hyperparameters, [fit.rounds for fit in fits]),
            "loss": sum(losses) / len(losses),
            "fold_losses": losses,
            "given_up": False,
        }


def split(candidate: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """A candidate's family, and its hyperparameters."""
    return candidate["family"], {k: v for k, v in candidate.items() if k != "family"}


def _final(name: str, hyperparameters: dict[str, Any], rounds: list[int | None]) -> dict[str, Any]:
    """The hyperparameters to refit with: rounds are the mean of where the periods stopped."""
    key = families.family(name).ROUNDS
    stopped = [count for count in rounds if count is not None]
    if key is None or not stopped:
        return hyperparameters
    return {**hyperparameters, key: max(1, round(sum(stopped) / len(stopped)))}
