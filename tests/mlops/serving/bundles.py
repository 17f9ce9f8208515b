"""Small bundles of every family and task, fitted and exported as real ones are."""

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
    """Rows with missing values; some columns have the names of `graph`'s inputs."""
    random = np.random.default_rng(seed)
    numbers = random.normal(size=(rows, len(NUMBERS))).astype("float32")
    numbers[random.random(numbers.shape) < missing] = np.nan
    words = random.choice(np.array(["a", "b", "c", ""], dtype=object), (rows, len(WORDS)))
    columns = dict(zip(NUMBERS, numbers.T, strict=True)) | dict(zip(WORDS, words.T, strict=True))
    return pd.DataFrame(columns)[COLUMNS]


def outcome(rows: pd.DataFrame, task: str) -> Any:
    """An outcome that every column adds to, or takes from."""
    score = pd.Series(rows.index % 3 + 0.0)
    for position, name in enumerate(rows):
        sign = (-1) ** (position // 2)
        if rows[name].dtype == object:
            score += sign * (rows[name] == sorted(set(rows[name]))[-1]).to_numpy()
        else:
            score += sign * 3 * rows[name].rank(pct=True).fillna(0.5).to_numpy()
    if task == "regression":
        return 100 * score.to_numpy()
    return pd.qcut(score.rank(method="first"), CLASSES[task], labels=False).to_numpy()


def fitted(family: str, task: str, rows: pd.DataFrame) -> tuple[Any, Any]:
    """A model's encoder and estimator."""
    chosen = families.family(family)
    encoder = families.encoder(chosen.ENCODING, rows)
    matrix = encoder.fit_transform(rows).astype("float32")
    estimator = chosen.build(task, SMALL.get(family, {}), 1, 1)
    chosen.fit(estimator, (matrix, outcome(rows, task)), None)
    return encoder, estimator


def exported(family: str, task: str, rows: pd.DataFrame) -> bytes:
    """A fitted model's graph."""
    return onnx.export(*fitted(family, task, rows), rows, task, CLASSES[task])


def card(rows: pd.DataFrame, family: str, task: str) -> dict[str, Any]:
    """The content of a bundle's card; its example is the first row."""
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


def write(folder: Path, model: bytes, content: dict[str, Any], rows: pd.DataFrame) -> Path:
    folder.mkdir(parents=True)
    (folder / bundle.MODEL).write_bytes(model)
    rows.to_parquet(folder / bundle.REFERENCE)
    bundle.write_card(folder, content)
    return folder


def make(folder: Path, family: str, task: str, columns: list[str] | None = None) -> Path:
    """A bundle in `folder`, of the columns named or of all."""
    rows = frame()[columns or COLUMNS]
    return write(folder, exported(family, task, rows), card(rows, family, task), rows)
