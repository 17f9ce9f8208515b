"""The searcher behind one function: Hyperopt's TPE, here or on Spark's executors."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from mlops.core.errors import UserError, nearest

Candidate = dict[str, Any]
Outcome = dict[str, Any]

# Drawn at random before TPE has something to learn from.
RANDOM_TRIALS = 8


def minimize(
    objective: Callable[[Candidate], Outcome],
    space: dict[str, dict[str, Any]],
    first: list[Candidate],
    max_evals: int,
    seed: int,
    *,
    spark: Any = None,
    parallelism: int = 1,
    on_outcome: Callable[[Outcome], None] = lambda outcome: None,
) -> list[Outcome]:
    """Try `max_evals` candidates, `first` ones first, and return each one's outcome in order.

    A candidate is `{"family": name, hyperparameter: value, ...}`; an outcome is what `objective`
    returns and carries its `loss`. The seed and `max_evals` decide the result; on Spark with
    `parallelism` above 1, so does the order in which trials end.
    """
    outcomes: list[Outcome] = []

    def report(outcome: Outcome) -> None:
        outcomes.append(outcome)
        on_outcome(outcome)

    first = first[:max_evals]
    if spark is None:
        _here(objective, space, first, max_evals, seed, report)
    else:
        for candidate in first:
            report(objective(candidate))
        if max_evals > len(first):
            _on_spark(objective, space, max_evals - len(first), seed, spark, parallelism, report)
    return outcomes


def _here(
    objective: Callable[[Candidate], Outcome],
    space: dict[str, dict[str, Any]],
    first: list[Candidate],
    max_evals: int,
    seed: int,
    report: Callable[[Outcome], None],
) -> None:
    def attempt(candidate: Candidate) -> dict[str, Any]:
        outcome = objective(_plain(candidate))
        report(outcome)
        return {"loss": outcome["loss"], "status": "ok"}

    _fmin(attempt, space, max_evals, seed, trials=_to_begin_with(first, space))


def _on_spark(
    objective: Callable[[Candidate], Outcome],
    space: dict[str, dict[str, Any]],
    max_evals: int,
    seed: int,
    spark: Any,
    parallelism: int,
    report: Callable[[Outcome], None],
) -> None:
    from hyperopt import SparkTrials

    def attempt(candidate: Candidate) -> dict[str, Any]:
        outcome = objective(_plain(candidate))
        return {"loss": outcome["loss"], "status": "ok", "outcome": outcome}

    trials = SparkTrials(parallelism=parallelism, spark_session=spark)
    _fmin(attempt, space, max_evals, seed, trials=trials)
    failed = max_evals - len([result for result in trials.results if "outcome" in result])
    if failed:
        raise RuntimeError(f"{failed} of {max_evals} trials failed on Spark; see its log")
    for result in trials.results:
        report(result["outcome"])


def _fmin(
    attempt: Callable[[Candidate], dict[str, Any]],
    space: dict[str, dict[str, Any]],
    max_evals: int,
    seed: int,
    trials: Any,
) -> None:
    import numpy as np
    from hyperopt import fmin, hp, tpe

    fmin(
        attempt,
        hp.choice("family", [{"family": name, **space[name]} for name in space]),
        algo=partial(tpe.suggest, n_startup_jobs=RANDOM_TRIALS),
        max_evals=max_evals,
        trials=trials,
        rstate=np.random.default_rng(seed),
        show_progressbar=False,
        return_argmin=False,
    )


def _to_begin_with(first: list[Candidate], space: dict[str, dict[str, Any]]) -> Any:
    """Hyperopt's trials, with the first candidates waiting in them."""
    from hyperopt import Trials
    from hyperopt.fmin import generate_trials_to_calculate

    if not first:
        return Trials()
    trials = generate_trials_to_calculate([_point(candidate, space) for candidate in first])
    trials.refresh()
    labels = {f"{name}.{key}" for name, keys in space.items() for key in keys}
    for trial in trials.trials:
        # TPE looks up every hyperparameter, those of the families not chosen too.
        for label in labels - set(trial["misc"]["vals"]):
            trial["misc"]["vals"][label] = trial["misc"]["idxs"][label] = []
    return trials


def _point(candidate: Candidate, space: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """A candidate in Hyperopt's own terms: the family's position, labels such as `family.C`."""
    name = candidate["family"]
    for key in set(candidate) - {"family"}:
        if key not in space[name]:
            raise UserError(f"models.py: FIRST: {name}.{key}: not in SPACE{nearest(key, space[name])}")
    values = {f"{name}.{key}": value for key, value in candidate.items() if key != "family"}
    return {"family": list(space).index(name), **values}


def _plain(candidate: Candidate) -> Candidate:
    """The candidate with Python's own numbers, so that it is the same in JSON."""
    return {
        key: value.item() if hasattr(value, "item") else value for key, value in candidate.items()
    }
