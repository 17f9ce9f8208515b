"""Real rows of the bundle's reference, with what its own model says of each."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.serving.forms import Form, Row
from benchmarks.serving.load import Questions
from mlops.contract import bundle

SINGLE = 512
GROUPS = 32
MANY = 100
SEED = 0


@dataclass(frozen=True)
class Rows:
    """Rows as JSON has them, and their probabilities."""

    rows: list[Row]
    scores: list[float]

    def single(self, form: Form) -> Questions:
        """A row in each request."""
        return self._questions(form, [[place] for place in range(min(SINGLE, len(self.rows)))])

    def many(self, form: Form) -> Questions:
        """A hundred rows in each request."""
        draw = np.random.default_rng(SEED)
        return self._questions(
            form, [draw.integers(len(self.rows), size=MANY).tolist() for _ in range(GROUPS)]
        )

    def _questions(self, form: Form, groups: list[list[int]]) -> Questions:
        return Questions(
            form,
            [form.render([self.rows[place] for place in group]) for group in groups],
            [[self.scores[place] for place in group] for group in groups],
        )


def read(folder: Path) -> Rows:
    """The reference's rows in another order; missing values are None."""
    import pandas as pd

    scorer = bundle.Scorer(folder)
    names = [column.name for column in scorer.card.inputs]
    frame = pd.read_parquet(folder / bundle.REFERENCE, columns=names)
    frame = frame.sample(frac=1.0, random_state=SEED, ignore_index=True)
    filled = frame.astype(object).where(frame.notna(), None)
    rows = [dict(zip(names, values, strict=True)) for values in filled.to_numpy().tolist()]
    return Rows(rows, scorer.predict(frame).tolist())
