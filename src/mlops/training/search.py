"""The searcher behind one function: Hyperopt's TPE, here or on Spark's executors."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from mlops.training.space import Candidate, Space, choices, label

Outcome = dict[str, Any]

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

    # Sent to Spark's executors: it refers to the objective alone.
    def attempt(candidate: Candidate) -> dict[str, Any]:
        outcome = objective(_plain(candidate))
        return {"loss": outcome["loss"], "status": "ok", "outcome": outcome}

    def attempt_here(candidate: Candidate) -> dict[str, Any]:
        result = attempt(candidate)
        report(result["outcome"])
        return result

    for candidate in first[:max_evals]:
        report(objective(candidate))
    left = max_evals - len(outcomes)
    if left and spark is None:
        known = list(zip(first, outcomes, strict=False))
        _fmin(attempt_here, space, max_evals, seed, _known_trials(known, space))
    elif left:
        from hyperopt import SparkTrials

        trials = SparkTrials(parallelism=parallelism, spark_session=spark)
        _fmin(attempt, space, left, seed, trials)
        ended = [result["outcome"] for result in trials.results if "outcome" in result]
        if len(ended) < left:
            raise RuntimeError(f"{left - len(ended)} of {left} trials failed on Spark")
        for outcome in ended:
            report(outcome)
    return outcomes


def _fmin(attempt: Any, space: Space, max_evals: int, seed: int, trials: Any) -> None:
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
        # Otherwise Hyperopt draws what a hand-set best candidate leaves out, and fails.
        return_argmin=True,
    )


def _known_trials(known: list[tuple[Candidate, Outcome]], space: Space) -> Any:
    """Hyperopt's trials, with what is known already for TPE to learn from."""
    from hyperopt import JOB_STATE_DONE, Trials
    from hyperopt.fmin import generate_trial

    # What is searched, as Hyperopt names it: not the constants.
    labels = {n: {k: name for k, v in space[n].items() if (name := label(v))} for n in space}
    every = [name for own in labels.values() for name in own.values()]
    trials = Trials()
    done = []
    for number, (candidate, outcome) in enumerate(known):
        name, own = candidate["family"], space[candidate["family"]]
        searched = {
            # Of a choice Hyperopt keeps the number.
            labels[name][key]: options.index(value) if (options := choices(own[key])) else value
            for key, value in candidate.items()
            if key in labels[name]
        }
        trial = generate_trial(number, {"family": list(space).index(name), **searched})
        # TPE looks up every hyperparameter, those of the families not chosen too.
        for name in every:
            trial["misc"]["vals"].setdefault(name, [])
            trial["misc"]["idxs"].setdefault(name, [])
        trial["state"] = JOB_STATE_DONE
        trial["result"] = {"loss": outcome["loss"], "status": "ok"}
        done.append(trial)
    trials.insert_trial_docs(done)
    trials.refresh()
    return trials


def _plain(candidate: Candidate) -> Candidate:
    """The candidate with Python's own number types, which JSON can write."""
    return {k: v.item() if hasattr(v, "item") else v for k, v in candidate.items()}
