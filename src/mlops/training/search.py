"""The searcher behind one function: Hyperopt's TPE, here or on Spark's executors."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from mlops.base.errors import UserError, nearest

Candidate = dict[str, Any]
Outcome = dict[str, Any]
Space = dict[str, dict[str, Any]]

# Random trials before TPE starts to model the outcomes.
RANDOM_TRIALS = 8


def minimize(
    objective: Callable[[Candidate], Outcome],
    space: Space,
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

    for candidate in first[:max_evals]:
        report(objective(candidate))
    known = list(zip(first, outcomes, strict=False))
    left = max_evals - len(known)
    if left and spark is None:
        _here(objective, space, known, max_evals, seed, report)
    elif left:
        _on_spark(objective, space, left, seed, spark, parallelism, report)
    return outcomes


def _here(
    objective: Callable[[Candidate], Outcome],
    space: Space,
    known: list[tuple[Candidate, Outcome]],
    max_evals: int,
    seed: int,
    report: Callable[[Outcome], None],
) -> None:
    def attempt(candidate: Candidate) -> dict[str, Any]:
        outcome = objective(_plain(candidate))
        report(outcome)
        return {"loss": outcome["loss"], "status": "ok"}

    _fmin(attempt, space, max_evals, seed, trials=_known_trials(known, space))


def _on_spark(
    objective: Callable[[Candidate], Outcome],
    space: Space,
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
    ended = [result["outcome"] for result in trials.results if "outcome" in result]
    if len(ended) < max_evals:
        raise RuntimeError(f"{max_evals - len(ended)} of {max_evals} trials failed on Spark")
    for outcome in ended:
        report(outcome)


def _fmin(
    attempt: Callable[[Candidate], dict[str, Any]],
    space: Space,
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


def completed(candidate: Candidate, space: Space) -> Candidate:
    """A hand-set candidate with what its family's space leaves constant."""
    name = candidate["family"]
    for key in set(candidate) - {"family"}:
        if key not in space[name]:
            hint = nearest(key, space[name])
            raise UserError(f"models.py: FIRST: {name}.{key}: not in SPACE{hint}")
    constants = {key: value for key, value in space[name].items() if _is_constant(value)}
    return {**constants, **candidate}


def _known_trials(known: list[tuple[Candidate, Outcome]], space: Space) -> Any:
    """Hyperopt's trials, with what is known already for TPE to learn from."""
    from hyperopt import JOB_STATE_DONE, Trials
    from hyperopt.fmin import generate_trial

    trials = Trials()
    done = []
    for number, (candidate, outcome) in enumerate(known):
        trial = generate_trial(number, _point(candidate, space))
        # TPE looks up every hyperparameter, those of the families not chosen too.
        for label in _labels(space):
            trial["misc"]["vals"].setdefault(label, [])
            trial["misc"]["idxs"].setdefault(label, [])
        trial["state"] = JOB_STATE_DONE
        trial["result"] = {"loss": outcome["loss"], "status": "ok"}
        done.append(trial)
    trials.insert_trial_docs(done)
    trials.refresh()
    return trials


def _point(candidate: Candidate, space: Space) -> dict[str, Any]:
    """A candidate in Hyperopt's own terms: the family's position, labels such as `family.C`."""
    name = candidate["family"]
    values = {f"{name}.{key}": value for key, value in candidate.items()}
    searched = {label: values[label] for label in _labels(space) if label in values}
    return {"family": list(space).index(name), **searched}


def _labels(space: Space) -> list[str]:
    """What is searched, as Hyperopt names it: not the constants."""
    return [
        f"{name}.{key}"
        for name, keys in space.items()
        for key, value in keys.items()
        if not _is_constant(value)
    ]


def _is_constant(value: Any) -> bool:
    return isinstance(value, (bool, int, float, str, type(None)))


def _plain(candidate: Candidate) -> Candidate:
    """The candidate with Python's own number types, which JSON can write."""
    return {
        key: value.item() if hasattr(value, "item") else value for key, value in candidate.items()
    }
