"""Searchers, a module each, which propose the candidates of the next round.

A module has a class `Searcher(space, seed, known)` with two methods: `propose(count)`, which gives
the candidates of a round, and `tell(losses)`, their losses in the same order. `known` are the
hand-set candidates with their losses. Where it has a number `random_trials`, as many trials are
proposed without any loss: they are one round. Its result depends on these arguments alone; what it
can't search it refuses with a UserError when it is made.
"""

from __future__ import annotations

from typing import Any

from mlops.contract import extensions
from mlops.training.space import Candidate, Space, choices, label

# Random trials before the outcomes are modelled.
RANDOM_TRIALS = 8
Known = list[tuple[Candidate, float]]


def searcher(name: str, space: Space, seed: int, known: Known | None = None) -> Any:
    """The searcher of a name or a module's path; UserError for an unknown one, or its space."""
    module = extensions.resolve("params.yaml: tune.searcher", name, __name__, ("Searcher",))
    return module.Searcher(space, seed, known or [])


def drawn(candidate: Candidate, space: Space) -> dict[str, Any]:
    """What a hand-set candidate's searched values would have been drawn as, by their labels."""
    own = space[candidate["family"]]
    values = {}
    for key, value in candidate.items():
        if key in own and (name := label(own[key])):
            # Of a choice its number is drawn.
            values[name] = options.index(value) if (options := choices(own[key])) else value
    return values


def plain(candidate: Candidate) -> Candidate:
    """The candidate with Python's own number types, which JSON can write."""
    return {k: v.item() if hasattr(v, "item") else v for k, v in candidate.items()}
