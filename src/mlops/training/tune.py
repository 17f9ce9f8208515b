"""Tune: search families and hyperparameters on rolling validation periods before the holdout."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops.base.errors import UserError
from mlops.base.files import whole_folder, write_json
from mlops.contract import dataset, project
from mlops.contract.paths import FEATURES, SEARCH
from mlops.contract.winner import TRIALS, Tuned
from mlops.data import engine
from mlops.pipeline import stage
from mlops.training import families, objective, search
from mlops.training.params import Params

if TYPE_CHECKING:
    from mlops.training.folds import Fold


@dataclass(frozen=True)
class Trial:
    """Score one candidate: a cheap first look, then every validation period."""

    folds: list[Fold]
    glimpse: Fold
    task: project.Task
    seed: int
    threads: int
    worst_first_look: float

    def __call__(self, candidate: dict[str, Any]) -> dict[str, Any]:
        name, hyperparameters = split_candidate(candidate)
        look = self.glimpse.fit(name, hyperparameters, self.task, self.seed, self.threads)
        outcome = {"family": name, "hyperparameters": hyperparameters, "first_look": look.loss}
        if look.loss > self.worst_first_look:
            return {**outcome, "loss": look.loss, "given_up": True}
        fits = [
            f.fit(name, hyperparameters, self.task, self.seed, self.threads) for f in self.folds
        ]
        losses = [fit.loss for fit in fits]
        final = _final(name, hyperparameters, [fit.rounds for fit in fits])
        return {
            **outcome,
            "hyperparameters": final,
            "loss": sum(losses) / len(losses),
            "fold_losses": losses,
            "given_up": False,
        }


def run(params: Params, root: Path) -> Tuned:
    """Write the trials and the winner; `tune.max_evals` and the seed decide the result."""
    from mlops.pipeline.progress import bar
    from mlops.pipeline.searchlog import SearchLog
    from mlops.training.folds import rolling

    spec, models = project.features(params.project), project.models(params.project)
    space = searched(models.space, params.tune.families)
    first = [search.completed(c, space) for c in models.first if c["family"] in space]
    table = dataset.read(root / FEATURES / dataset.TRAINING)
    folds = rolling(table, spec, models.task, params.split)
    trial = _trial(folds, models.task, first, params)
    with SearchLog(params.model, root) as tracked, bar("tune", params.tune.max_evals) as progress:
        outcomes = search.minimize(
            trial,
            space,
            first,
            params.tune.max_evals,
            params.seed,
            spark=engine.start("spark") if params.engine == "spark" else None,
            parallelism=params.tune.parallelism,
            on_outcome=_both(tracked.trial, progress.advance),
        )
        result = _winner(outcomes, folds, models.task, params)
        with whole_folder(root / SEARCH) as folder:
            write_json(folder / TRIALS, outcomes)
            result.save(folder)
        tracked.finish()
    return result


def split_candidate(candidate: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """A candidate's family, and its hyperparameters."""
    return candidate["family"], {k: v for k, v in candidate.items() if k != "family"}


def _trial(
    folds: list[Fold], task: project.Task, first: list[dict[str, Any]], params: Params
) -> Trial:
    """Make the trial; it gives up on a first look that is worse than the first candidate's."""
    glimpse = folds[-1].thinned(params.tune.first_look)
    limit = float("inf")
    if first:
        name, hyperparameters = split_candidate(first[0])
        look = glimpse.fit(name, hyperparameters, task, params.seed, params.threads)
        limit = look.loss * (1 + params.tune.give_up)
    return Trial(folds, glimpse, task, params.seed, params.threads, limit)


def _winner(
    outcomes: list[dict[str, Any]], folds: list[Fold], task: project.Task, params: Params
) -> Tuned:
    finished = [outcome for outcome in outcomes if not outcome["given_up"]]
    if not finished:
        raise UserError(
            f"params.yaml: tune.give_up: found {params.tune.give_up}; every trial was given up"
        )
    best = min(finished, key=lambda outcome: outcome["loss"])
    return Tuned(
        task=task,
        family=best["family"],
        hyperparameters=best["hyperparameters"],
        loss=best["loss"],
        loss_name=objective.NAMES[task],
        threshold=_threshold(best, folds[-1], params) if task == "binary" else None,
        trials=len(outcomes),
        given_up=len(outcomes) - len(finished),
    )


def _threshold(best: dict[str, Any], fold: Fold, params: Params) -> float:
    """Where the winner cuts, by what it says of the last validation period."""
    fit = fold.fit(best["family"], best["hyperparameters"], "binary", params.seed, params.threads)
    return objective.threshold(fold.validation_target, fit.prediction)


def _final(name: str, hyperparameters: dict[str, Any], rounds: list[int | None]) -> dict[str, Any]:
    """The hyperparameters to refit with: rounds are the mean of where the periods stopped."""
    key = families.family(name).rounds
    stopped = [count for count in rounds if count is not None]
    if key is None or not stopped:
        return hyperparameters
    return {**hyperparameters, key: max(1, round(sum(stopped) / len(stopped)))}


def searched(
    space: dict[str, dict[str, Any]], wanted: tuple[str, ...]
) -> dict[str, dict[str, Any]]:
    """The part of a project's space that the wanted families span."""
    for name in wanted:
        families.family(name)
        if name not in space:
            raise UserError(
                f"params.yaml: tune.families: found {name!r}, expected one of the project's "
                f"models.py: {', '.join(space)}"
            )
    return {name: space[name] for name in wanted}


def _both(
    first: Callable[[dict[str, Any]], None], then: Callable[[dict[str, Any]], None]
) -> Callable[[dict[str, Any]], None]:
    def call(outcome: dict[str, Any]) -> None:
        first(outcome)
        then(outcome)

    return call


if __name__ == "__main__":
    stage.main("tune", run, Params)
