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

from mlops.base.errors import UserError, nearest
from mlops.contract import dataset
from mlops.contract.bundle import REFERENCE, Array, Scorer
from mlops.contract.paths import FEATURES
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

    parts = [dataset.read(root / FEATURES / part) for part in (dataset.TRAINING, dataset.HOLDOUT)]
    table = pd.concat(parts)
    table.index = pd.Index(table[spec.key].astype(str))
    for key in keys:
        if key not in table.index:
            raise UserError(
                f"{FEATURES}: {spec.key}: found no row {key!r}{nearest(key, table.index)}"
            )
    return table.loc[list(keys)]


def explain(folder: Path, asked: pd.DataFrame, seed: int) -> list[Explanation]:
    """Explain the scores that a bundle gives some rows, of several classes that of the likeliest.

    `asked` has the bundle's inputs, in their own units.
    """
    import pandas as pd
    import shap

    scorer = Scorer(folder)
    names = [column.name for column in scorer.card.inputs]
    background = pd.read_parquet(folder / REFERENCE)[names]
    background = background.sample(min(BACKGROUND, len(background)), random_state=seed)
    both = pd.concat([background, asked[names]], ignore_index=True)
    # shap computes with numbers: a category is the number of its value, among those that are here.
    known = {
        column.name: pd.factorize(both[column.name], use_na_sentinel=False)
        for column in scorer.card.inputs
        if column.type == "string"
    }
    codes = both.assign(**{name: numbers for name, (numbers, _) in known.items()}).astype(float)

    def scores(matrix: Array) -> Array:
        frame = pd.DataFrame(matrix, columns=names)
        values: dict[str, Any] = {
            name: uniques.take(frame[name].to_numpy(dtype=int))
            for name, (_, uniques) in known.items()
        }
        return scorer.predict(frame.assign(**values)).reshape(len(frame), -1)

    matrix = codes.to_numpy()
    masker = shap.maskers.Independent(matrix[: len(background)], max_samples=len(background))
    explainer = shap.PermutationExplainer(scores, masker, seed=seed)
    questions = matrix[len(background) :]
    evaluations = PERMUTATIONS * (2 * len(names) + 1)
    found = explainer(questions, max_evals=evaluations, silent=True)
    totals = scores(questions)
    # shap drops the axis of the outputs where there is one.
    values = found.values.reshape(*questions.shape, -1)
    bases = np.reshape(found.base_values, (len(questions), -1))
    explained = []
    for number, (row, total) in enumerate(zip(asked.to_dict("records"), totals, strict=True)):
        output = int(total.argmax())
        table = pd.DataFrame(
            {
                "feature": names,
                "value": [row[name] for name in names],
                "contribution": values[number, :, output],
            }
        )
        order = table["contribution"].abs().sort_values(ascending=False, kind="stable").index
        explained.append(
            Explanation(
                base=float(bases[number, output]),
                score=float(total[output]),
                output=scorer.card.class_names[output] if len(total) > 1 else "",
                contributions=table.loc[order].reset_index(drop=True),
            )
        )
    return explained
