"""Small bundles of every family and task, made by the code that makes real ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mlops.contract import bundle
from mlops.training import families, onnx

TASKS = ("binary", "multiclass", "regression")
FAMILIES = ("lightgbm", "xgboost", "hist_gradient_boosting", "linear")
CLASSES = {"binary": 2, "multiclass": 3, "regression": 1}
SMALL = {
    "lightgbm": {"n_estimators": 15, "min_child_samples": 5},
    "xgboost": {"n_estimators": 15},
    "hist_gradient_boosting": {"max_iter": 15, "min_samples_leaf": 5},
}
NUMBERS = ["numbers", "z", "höhe", "numbers_0"]
WORDS = ["words", "city"]
COLUMNS = ["words", "numbers", "z", "city", "höhe", "numbers_0"]


def frame(rows: int = 200, seed: int = 0, missing: float = 0.1) -> pd.DataFrame:
    """Rows with missing numbers and words, in columns that have the names the fast graph uses."""
    random = np.random.default_rng(seed)
    numbers = random.normal(size=(rows, len(NUMBERS))).astype("float32")
    numbers[random.random(numbers.shape) < missing] = np.nan
    words = random.choice(np.array(["a", "b", "c", ""], dtype=object), (rows, len(WORDS)))
    columns = dict(zip(NUMBERS, numbers.T, strict=True)) | dict(zip(WORDS, words.T, strict=True))
    return pd.DataFrame(columns)[COLUMNS]


def outcome(rows: pd.DataFrame, task: str) -> Any:
    score = rows.index % 3 + 0.0
    if "numbers" in rows:
        score = score + rows["numbers"].fillna(0.5).to_numpy()
    if "words" in rows:
        score = score + rows["words"].map({"a": 1.0, "b": -1.0}).fillna(0).to_numpy()
    if task == "regression":
        return 100 * score.to_numpy()
    return pd.qcut(pd.Series(score).rank(method="first"), CLASSES[task], labels=False).to_numpy()


def exported(family: str, task: str, rows: pd.DataFrame) -> bytes:
    """A fitted model's graph."""
    known = families.family(family)
    encoder = families.encoder(known.encoding, rows)
    matrix = encoder.fit_transform(rows).astype("float32")
    estimator = known.build(task, SMALL.get(family, {}), 1, 1)
    known.fit(estimator, (matrix, outcome(rows, task)), None)
    return onnx.export(encoder, estimator, rows, task, CLASSES[task])


def card(rows: pd.DataFrame, family: str, task: str) -> dict[str, Any]:
    """What a bundle says of itself; its example is the first row."""
    words = [name for name in rows if rows[name].dtype == object]
    example = rows.iloc[0].astype(object).where(rows.iloc[0].notna(), None)
    return {
        "name": f"{task}-model", "task": task, "target": "outcome", "classes": CLASSES[task],
        "inputs": [
            {"name": name, "type": "string", "unit": "category",
             "categories": sorted(set(rows[name]))} if name in words
            else {"name": name, "type": "float", "unit": "m"} for name in rows
        ],
        "example": example.to_dict(),
        "outputs": onnx.output_names(task, CLASSES[task]),
        "threshold": 0.5 if task == "binary" else None,
        "family": family, "hyperparameters": {}, "parity": 0.0, "hashes": {},
        "trained_on": {"rows": len(rows), "since": "2024-01-01", "until": "2024-12-31"},
    }  # fmt: skip


def write(folder: Path, model: bytes, said: dict[str, Any], rows: pd.DataFrame) -> Path:
    folder.mkdir(parents=True)
    (folder / bundle.MODEL).write_bytes(model)
    rows.to_parquet(folder / bundle.REFERENCE)
    bundle.write_card(folder, said)
    return folder


def make(folder: Path, family: str, task: str, columns: list[str] | None = None) -> Path:
    """A bundle in `folder`, of the columns named or of all."""
    rows = frame()[columns or COLUMNS]
    return write(folder, exported(family, task, rows), card(rows, family, task), rows)
