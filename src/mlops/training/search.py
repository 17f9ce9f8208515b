"""The search: rounds of candidates, proposed by a searcher and tried here or elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mlops.contract.project import Models
from mlops.training import families, workers
from mlops.training.params import Params
from mlops.training.searchers import searcher
from mlops.training.space import Candidate, Space, searched
from mlops.training.workers import Objective, Outcome


def require(params: Params, models: Models) -> None:
    """Raise UserError, before anything is made, for a search or a training that can't be done."""
    space, _ = searched(models, params.tune.families)
    searcher(params.tune.searcher, space, params.seed)
    families.require_distributed(params.tune.families, params.train.workers)


def minimize(
    objective: Objective,
    space: Space,
    first: list[Candidate],
    max_evals: int,
    seed: int,
    *,
    spark: Any = None,
    parallelism: int = 1,
    name: str = "hyperopt",
    on_outcome: Callable[[Outcome], None] = lambda outcome: None,
) -> list[Outcome]:
    """Try `max_evals` candidates, `first` ones first, and return each one's outcome in order.

    A candidate is `{"family": name, hyperparameter: value, ...}`; an outcome is what `objective`
    returns and carries its `loss`. Candidates are proposed in rounds of `parallelism`, from the
    outcomes of the rounds before; those that are drawn at random, in one round. The seed,
    `max_evals`, `parallelism` and the searcher's name decide the result, wherever trials run and in
    whatever order they end.
    """
    with workers.started(objective, parallelism, spark) as attempts:

        def tried(candidates: list[Candidate]) -> list[Outcome]:
            ended: dict[int, Outcome] = {}
            for number, outcome in attempts(candidates):
                ended[number] = outcome
                on_outcome(outcome)
            return [ended[number] for number in range(len(candidates))]

        known = first[:max_evals]
        outcomes = tried(known)
        losses = [outcome["loss"] for outcome in outcomes]
        proposing = searcher(name, space, seed, list(zip(known, losses, strict=True)))
        while left := max_evals - len(outcomes):
            # A round ends with its slowest trial: the fewer rounds, the less a worker waits.
            count = max(parallelism, getattr(proposing, "random_trials", 0) - len(outcomes))
            proposed = tried(proposing.propose(min(left, count)))
            proposing.tell([outcome["loss"] for outcome in proposed])
            outcomes += proposed
    return outcomes
