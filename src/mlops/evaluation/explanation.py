"""Why a bundle scored a row as it did: each feature's contribution, which add up to the score.

Shapley values of the ONNX model itself, by permutations of the features: a feature that is absent
has the values of the bundle's reference rows. Their sum and the mean score of those rows are the
row's score, exactly but for rounding.

Source: Lundberg and Lee, A Unified Approach to Interpreting Model Predictions (2017); Mitchell et
al., Sampling Permutations for Shapley Value Estimation (2022), which shap's `PermutationExplainer`
implements.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mlops.base.errors import UserError, listed
from mlops.contract import dataset
from mlops.contract.bundle import REFERENCE, Array, Scorer
from mlops.contract.paths import FEATURES, not_found
from mlops.contract.project import Features

if TYPE_CHECKING:
    import pandas as pd

# Reference rows that stand for a feature's absence, and permutations of the features; each one is
# walked forwards and backwards.
BACKGROUND, PERMUTATIONS = 100, 10


@dataclass(frozen=True)
class Explanation:
    """One row's score in the outputs' unit: `base` is the mean score of the reference rows.

    `contributions` has a row for each feature, the greatest in size first: feature, value,
    contribution. `output` names the class that is explained, "" where there is one output.
    """

    base: float
    score: float
    output: str
    contributions: pd.DataFrame

    def lines(self, most: int) -> Iterator[str]:
        """The score, and that many of its contributions, the greatest first."""
        of = f" of {self.output}" if self.output else ""
        yield f"score{of} {self.score:.4f}, mean score of the reference rows {self.base:.4f}"
        for row in self.contributions.head(most).to_dict("records"):
            value = f"{row['value']:.6g}" if isinstance(row["value"], float) else str(row["value"])
            yield f"  {row['contribution']:+.4f}  {row['feature']} = {value}"
        if len(rest := self.contributions["contribution"].iloc[most:]):
            yield f"  {rest.sum():+.4f}  {len(rest)} others"


def rows(root: Path, spec: Features, keys: Sequence[str]) -> pd.DataFrame:
    """The rows of the feature table with these keys, in their order; UserError without one."""
    import pandas as pd

    paths = [root / FEATURES / part for part in (dataset.TRAINING, dataset.HOLDOUT)]
    for path in paths:
        if not path.exists():
            raise UserError(not_found(path))
    table = pd.concat([dataset.read(path) for path in paths])
    table.index = pd.Index(table[spec.key].astype(str))
    for key in keys:
        if key not in table.index:
            # The nearest of all keys takes long to find.
            known = f"expected a key such as {table.index[0]!r}"
            raise UserError(f"{FEATURES}: {spec.key}: found no row {key!r}, {known}")
    return table.loc[list(keys)]


def explain(folder: Path, asked: pd.DataFrame, seed: int) -> list[Explanation]:
    """Explain the scores that a bundle gives some rows, of several classes that of the likeliest.

    `asked` has the bundle's inputs, in their own units. Raises UserError where it lacks one.
    """
    import pandas as pd

    scorer = Scorer(folder)
    names = [column.name for column in scorer.card.inputs]
    if lacking := [name for name in names if name not in asked]:
        raise UserError(
            f"{FEATURES}: found no column {listed(lacking)}, expected {folder}'s inputs"
        )
    background = pd.read_parquet(folder / REFERENCE)[names]
    background = background.sample(min(BACKGROUND, len(background)), random_state=seed)
    bases, contributions, scores = _shapley(scorer, background, asked[names], seed)
    explained = []
    for row, values in enumerate(asked[names].to_dict("records")):
        output = int(scores[row].argmax())
        table = pd.DataFrame(
            {
                "feature": names,
                "value": list(values.values()),
                "contribution": contributions[row, :, output],
            }
        ).sort_values("contribution", key=abs, ascending=False, kind="stable", ignore_index=True)
        name = scorer.card.class_names[output] if scores.shape[1] > 1 else ""
        base, score = float(bases[row, output]), float(scores[row, output])
        explained.append(Explanation(base, score, name, table))
    return explained


def _shapley(
    scorer: Scorer, background: pd.DataFrame, asked: pd.DataFrame, seed: int
) -> tuple[Array, Array, Array]:
    """Mean scores of the background (rows, outputs), contributions (rows, features, outputs), and
    scores (rows, outputs) of the rows that are asked for."""
    import pandas as pd
    import shap

    both = pd.concat([background, asked], ignore_index=True)
    # shap computes with numbers: a category is the number of its value, among those that are here.
    known = {
        name: pd.factorize(both[name], use_na_sentinel=False) for name in dataset.categories(both)
    }
    codes = both.assign(**{name: numbers for name, (numbers, _) in known.items()})
    matrix = codes.to_numpy(dtype=float, na_value=np.nan)
    absent, present = matrix[: len(background)], matrix[len(background) :]

    def scores(rows: Array) -> Array:
        frame = pd.DataFrame(rows, columns=both.columns)
        values: dict[str, Any] = {
            name: uniques.take(frame[name].to_numpy(dtype=int))
            for name, (_, uniques) in known.items()
        }
        return scorer.predict(frame.assign(**values)).reshape(len(frame), -1)

    masker = shap.maskers.Independent(absent, max_samples=len(absent))
    explainer = shap.PermutationExplainer(scores, masker, seed=seed)
    evaluations = PERMUTATIONS * (2 * len(both.columns) + 1)
    found = explainer(present, max_evals=evaluations, silent=True)
    # shap drops the axis of the outputs where there is one.
    contributions = found.values.reshape(*present.shape, -1)
    return np.reshape(found.base_values, (len(present), -1)), contributions, scores(present)
