"""The feature table: its two parts on disk, its outcomes, and the days by which it is split."""

from __future__ import annotations

import datetime as dt
import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mlops.base.errors import UserError, listed
from mlops.contract.project import Features, Task

if TYPE_CHECKING:
    import pandas as pd

Array = np.ndarray[Any, np.dtype[Any]]

TRAINING = "training.parquet"
HOLDOUT = "holdout.parquet"
# Rows that a sample keeps of each class.
LEAST = 5


def names(outcome: pd.Series[Any]) -> pd.Series[str]:
    """The target's values as text; whole numbers that missing values made float without `.0`."""
    if outcome.dtype == "float64" and (outcome % 1 == 0).all():
        outcome = outcome.astype("int64")
    return outcome.astype(str)


def read(path: Path) -> pd.DataFrame:
    """Read one part."""
    import pandas as pd

    return pd.read_parquet(path)


def sampled(path: Path, most: int | None, spec: Features, task: Task) -> tuple[pd.DataFrame, int]:
    """At most so many rows of a part, all for None, in their order; and how many there are.

    A hash of the group or key chooses them, so that a row stays chosen as others come. A class
    keeps its share of the rows, and LEAST more. The others are never held.
    """
    import duckdb
    import pyarrow.parquet as pq

    if most is None or not path.exists() or pq.read_metadata(path).num_rows <= most:
        frame = read(path)
        return frame, len(frame)
    total = pq.read_metadata(path).num_rows
    by, key, target = (
        '"' + name.replace('"', '""') + '"'
        for name in (spec.group or spec.key, spec.key, spec.target)
    )
    stratum = "0" if task == "regression" else target
    with duckdb.connect(config={"autoinstall_known_extensions": "false"}) as database:
        file = "read_parquet('{}')".format(os.path.relpath(path).replace("'", "''"))
        query = f"""
            SELECT rows.* FROM {file} AS rows SEMI JOIN (
                SELECT file_row_number, count(*) OVER (PARTITION BY {stratum}) AS own,
                    row_number() OVER (PARTITION BY {stratum} ORDER BY md5({by}::VARCHAR), {key})
                    AS place
                FROM {file}
                QUALIFY place <= {LEAST} + floor(own * greatest(0, {most} - {LEAST} *
                    (SELECT count(DISTINCT {stratum}) FROM {file})) / {total})
            ) AS chosen USING (file_row_number) ORDER BY file_row_number"""
        frame = database.sql(query).to_arrow_table().to_pandas()
    return frame, total


def classes(table: pd.DataFrame, spec: Features, task: Task) -> tuple[str, ...]:
    """The names of the target's classes, declared or sorted; none in a regression."""
    if task == "regression":
        return ()
    outcome = table[spec.target].dropna().drop_duplicates().sort_values()
    found = spec.classes or tuple(names(outcome))
    if task == "binary" and len(found) != 2:
        expected = "two classes"
    elif outcome.dtype == "float64" and (outcome % 1 > 0).any():
        expected = "classes"
    else:
        return found
    raise UserError(
        f"features: {spec.target}: found {listed(found) or 'no value'}; expected {expected} "
        f"(models.py: TASK: {task})"
    )


def target(table: pd.DataFrame, spec: Features, classes: tuple[str, ...]) -> Array:
    """The target's values: float64, or the classes' numbers as int64; UserError for others."""
    outcome = table[spec.target]
    if not classes:
        if outcome.dtype == object:
            found = f"found text, such as {outcome.iloc[0]!r}"
            raise UserError(f"features: {spec.target}: {found}, expected numbers for a regression")
        return outcome.to_numpy(dtype="float64")
    numbers = names(outcome).map({name: number for number, name in enumerate(classes)})
    if unknown := sorted(set(names(outcome[numbers.isna()]))):
        raise UserError(
            f"features: {spec.target}: found {', '.join(unknown)}, expected only classes that the "
            f"training rows have: {', '.join(classes)}"
        )
    return numbers.to_numpy(dtype="int64")


def share(values: pd.Series[Any], purpose: str) -> Array:
    """A number in [0, 1) for each value, by a hash of the value and the purpose alone; float64."""
    codes, unique = values.factorize()
    texts = (f"{purpose}:{value}".encode() for value in unique)
    digests = b"".join(hashlib.blake2b(text, digest_size=8).digest() for text in texts)
    hashed: Array = np.frombuffer(digests, dtype=">u8")[codes] / 2.0**64
    return hashed


def sample(outcome: Array, rows: int, classes: tuple[str, ...], seed: int) -> Array:
    """Positions of a random sample of about so many rows, ascending; every class keeps its share,
    and a rare one LEAST rows of those that there are."""
    draw = np.random.default_rng(seed)
    if rows >= len(outcome):
        return np.arange(len(outcome))
    if not classes:
        return np.sort(draw.permutation(len(outcome))[:rows])
    kept = []
    for number in range(len(classes)):
        own = draw.permutation(np.flatnonzero(outcome == number))
        kept.append(own[: max(round(len(own) * rows / len(outcome)), LEAST)])
    return np.sort(np.concatenate(kept))


def clusters(table: pd.DataFrame, spec: Features) -> Array:
    """A number for each row, the same for rows that depend on one another: those of a day, or
    where rows have none, of a group or key."""
    values = table[spec.day].dt.date if spec.day else table[spec.group or spec.key]
    return values.factorize(use_na_sentinel=False)[0]


def inputs(table: pd.DataFrame, spec: Features) -> pd.DataFrame:
    """A model's input columns, missing categories as empty strings."""
    frame = table[list(spec.features)].copy()
    categorical = categories(frame)
    frame[categorical] = frame[categorical].fillna("").astype(str).astype(object)
    return frame


def categories(frame: pd.DataFrame) -> list[str]:
    """The columns of a model's input that hold strings."""
    import pandas as pd

    return [str(name) for name in frame if not pd.api.types.is_numeric_dtype(frame[name])]


def with_prediction(table: pd.DataFrame, prediction: Array) -> pd.DataFrame:
    """The table with the column `prediction`, or `prediction_<class>` where there are several."""
    if prediction.ndim == 1:
        return table.assign(prediction=prediction)
    return table.assign(**{f"prediction_{i}": column for i, column in enumerate(prediction.T)})


def validation_starts(last: dt.date, days: int, folds: int) -> list[dt.date]:
    """First days of the rolling validation periods that end at `last`, earliest first."""
    return [last - dt.timedelta(days=days * back - 1) for back in range(folds, 0, -1)]
