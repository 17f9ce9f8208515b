"""Tune: search families and hyperparameters on rolling validation periods before the holdout."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from mlops.base.errors import UserError
from mlops.base.files import read_json, whole_folder, write_json
from mlops.contract import dataset, project
from mlops.contract.paths import FEATURES, RESULT, SEARCH
from mlops.contract.result import TRIALS, Tuned
from mlops.data import engine
from mlops.pipeline import stage
from mlops.training import families, objective, search
from mlops.training.params import Params
from mlops.training.searchers import searcher
from mlops.training.space import searched
from mlops.training.trial import Trial, split


def run(params: Params, root: Path) -> Tuned:
    """Write the trials and the winner; the seed and `tune` decide the result, not the engine."""
    from mlops.pipeline import tracking
    from mlops.pipeline.progress import bar
    from mlops.training.folds import rolling

    spec, models = project.features(params.project), project.models(params.project)
    path = root / FEATURES / dataset.TRAINING
    table, rows = dataset.sampled(path, params.tune.rows, spec, models.task)
    space, first = searched(models, params.tune.families, len(table))
    searcher(params.tune.searcher, space, params.seed)
    classes = dataset.classes(table, spec, models.task)
    _require_known(root, spec, classes)
    folds = rolling(table, spec, classes, params.split)
    for name in space:
        families.require_memory(name, folds[-1].train)
    glimpse = folds[-1].thinned(params.tune.first_look, classes, params.seed)
    trial = _trial(Trial(folds, glimpse, models.task, params.seed, params.threads), first, params)
    with bar("tune", params.tune.max_evals) as advance:
        outcomes = search.minimize(
            trial,
            space,
            first,
            params.tune.max_evals,
            params.seed,
            spark=engine.start("spark") if params.engine == "spark" else None,
            parallelism=params.tune.parallelism,
            name=params.tune.searcher,
            on_outcome=advance,
        )
    sample = (len(table), rows) if len(table) < rows else None
    result = _winner(outcomes, trial, params).model_copy(update={"sample": sample})
    with whole_folder(root / SEARCH) as folder:
        write_json(folder / TRIALS, outcomes)
        result.save(folder)
    tracking.tolerant(tracking.search, params.model, root)
    return result


def _require_known(root: Path, spec: project.Features, classes: tuple[str, ...]) -> None:
    """Raise UserError for a class that only the holdout has: no model could predict it."""
    unseen = read_json(root / FEATURES / RESULT).get("unseen", ())
    if classes and unseen:
        raise UserError(
            f"features: {spec.target}: found the class {unseen[0]} in the holdout alone, expected "
            "training rows of it; move the split (params.yaml: split), or leave its rows out"
        )


def _trial(trial: Trial, first: list[dict[str, Any]], params: Params) -> Trial:
    """The trial that gives up on a first look that is worse than the first candidate's."""
    if not first:
        return trial
    loss = trial.fit(trial.glimpse, *split(first[0])).loss
    return replace(trial, worst_first_look=loss * (1 + params.tune.give_up))


def _winner(outcomes: list[dict[str, Any]], trial: Trial, params: Params) -> Tuned:
    finished = [outcome for outcome in outcomes if not outcome["given_up"]]
    if not finished:
        raise UserError(
            f"params.yaml: tune.give_up: found {params.tune.give_up}; every trial was given up"
        )
    best = min(finished, key=lambda outcome: outcome["loss"])
    family, hyperparameters, task = best["family"], best["hyperparameters"], trial.task
    threshold = None
    if task == "binary":
        # Where the winner cuts, by what it says of the last validation period.
        last = trial.folds[-1]
        prediction = trial.fit(last, family, hyperparameters).prediction
        threshold = objective.threshold(last.validation_target, prediction)
    constants = [
        objective.constant(task, fold.train_target, fold.validation_target) for fold in trial.folds
    ]
    constant = sum(constants) / len(constants)
    return Tuned(
        task=task,
        family=family,
        hyperparameters=hyperparameters,
        loss=best["loss"],
        constant_loss=constant,
        no_better=sum(outcome["loss"] >= constant for outcome in finished),
        loss_name=objective.NAMES[task],
        threshold=threshold,
        trials=len(outcomes),
        given_up=len(outcomes) - len(finished),
    )


if __name__ == "__main__":
    stage.main("tune", run, Params)
