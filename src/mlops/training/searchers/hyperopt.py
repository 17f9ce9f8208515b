"""Hyperopt's tree-structured Parzen estimator (TPE)."""

from __future__ import annotations

from typing import Any

from mlops.training.searchers import RANDOM_TRIALS, Known, drawn, plain
from mlops.training.space import Candidate, Space, label


class Searcher:
    """Every candidate of a round is proposed with a seed of its own, from the same outcomes."""

    random_trials = RANDOM_TRIALS

    def __init__(self, space: Space, seed: int, known: Known) -> None:
        import numpy as np
        from hyperopt import Trials, hp
        from hyperopt.base import Domain

        self._space = hp.choice("family", [{"family": name, **space[name]} for name in space])
        self._domain = Domain(lambda candidate: None, self._space)
        self._seeds = np.random.default_rng(seed)
        self._trials = Trials()
        self._round = [_document(n, candidate, space) for n, (candidate, _) in enumerate(known)]
        self.tell([loss for _, loss in known])

    def propose(self, count: int) -> list[Candidate]:
        """The candidates of the next round."""
        from hyperopt import space_eval, tpe

        self._round = []
        for number in self._trials.new_trial_ids(count):
            seed = self._seeds.integers(2**31 - 1)
            ruled = {"n_startup_jobs": RANDOM_TRIALS, "verbose": False}
            self._round += tpe.suggest([number], self._domain, self._trials, seed, **ruled)
        values = [document["misc"]["vals"] for document in self._round]
        drawn = [{name: found[0] for name, found in vals.items() if found} for vals in values]
        return [plain(space_eval(self._space, value)) for value in drawn]

    def tell(self, losses: list[float]) -> None:
        """Learn the losses of the last round's candidates."""
        from hyperopt import JOB_STATE_DONE

        for document, loss in zip(self._round, losses, strict=True):
            document["state"] = JOB_STATE_DONE
            document["result"] = {"loss": loss, "status": "ok"}
        self._trials.insert_trial_docs(self._round)
        self._trials.refresh()


def _document(number: int, candidate: Candidate, space: Space) -> Any:
    """A hand-set candidate as Hyperopt keeps a trial."""
    from hyperopt.fmin import generate_trial

    family = list(space).index(candidate["family"])
    document = generate_trial(number, {"family": family, **drawn(candidate, space)})
    # TPE looks up every hyperparameter, those of the families not chosen too.
    for own in space.values():
        for name in filter(None, map(label, own.values())):
            for part in ("vals", "idxs"):
                document["misc"][part].setdefault(name, [])
    return document
