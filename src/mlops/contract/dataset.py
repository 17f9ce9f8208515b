"""The feature table: its types, its two parts on disk, and the days by which it is split."""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mlops.base.errors import UserError, listed, nearest
from mlops.contract.project import CATEGORY, Features, Task

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

Array = np.ndarray[Any, np.dtype[Any]]

TRAINING = "training.parquet"
HOLDOUT = "holdout.parquet"
# Up to here float32 holds every whole number.
LARGEST_WHOLE = 2**24
# Rows that a sample keeps of each class.
LEAST = 5


def typed(table: pa.Table, spec: Features) -> pd.DataFrame:
    """The declared columns in their order and types, rows ordered by day and key.

    Features become what `FEATURES` declares: categories are strings, all others are float32, what
    models and ONNX both compute with. Raises UserError for a declared column that the project's
    code did not make, or whose values are not what it is declared as.
    """
    import pyarrow as pa

    for name in spec.columns:
        if table.column_names.count(name) != 1:
            hint = nearest(name, table.column_names)
            found = "made twice" if name in table.column_names else f"not made{hint}"
            raise UserError(f"features: {name}: declared, but {found}")
    roles = dict.fromkeys(spec.order, pa.string())
    if spec.day:
        _require(table, spec.day, lambda k: _is(k, "date", "timestamp"), "a date or a timestamp")
        roles[spec.day] = pa.timestamp("ms")
    for name in spec.order:
        if table.column(name).null_count:
            missing = f"{table.column(name).null_count:,} rows without a value"
            raise UserError(f"features: {name}: {missing}, expected one in every row")
    for name in spec.features:
        if spec.is_category(name):
            expected = "text or a whole number; a boolean is a number, 0 or 1: give it a unit"
            _require(table, name, _is_category, expected)
            roles[name] = pa.string()
        else:
            _require(table, name, _is_number, f"a number, or '{CATEGORY}' as its unit")
            roles[name] = pa.float32()
    # Arrow sorts and casts several times faster than Pandas.
    table = table.select(spec.columns)
    for name, kind in roles.items():
        column = table.column(name)
        if kind == pa.float32() and pa.types.is_boolean(column.type):
            column = column.cast(pa.uint8())
        column = column.cast(kind, safe=False)
        _require_finite(name, column)
        table = table.set_column(table.column_names.index(name), name, column)
    ordered = table.sort_by([(name, "ascending") for name in spec.order])
    frame: pd.DataFrame = ordered.to_pandas(ignore_metadata=True)
    frame[spec.target] = _outcome(table.schema.field(spec.target).type, frame[spec.target], spec)
    return frame


def _outcome(kind: pa.DataType, values: pd.Series[Any], spec: Features) -> pd.Series[Any]:
    """The target as whole numbers, numbers or names. Raises UserError for anything else."""
    place = f"features: {spec.target}"
    if not (_is_number(kind) or _is_category(kind)):
        raise UserError(f"{place}: found {kind}, expected a number, text or a boolean")
    if not _is_number(kind):
        outcome = values.astype(object)
    else:
        outcome = values.astype("Int64" if _is_whole(kind) or _is(kind, "boolean") else "float64")
        if not np.isfinite(outcome.dropna().astype("float64")).all():
            raise UserError(f"{place}: found an infinite value, expected finite numbers")
    if spec.classes:
        for value in names(outcome.dropna()).unique():
            if value not in spec.classes:
                hint = nearest(value, spec.classes) or f": {', '.join(spec.classes)}"
                raise UserError(f"{place}: found {value!r}, expected one of CLASSES{hint}")
    return outcome


def names(outcome: pd.Series[Any]) -> pd.Series[str]:
    """The target's values as text; whole numbers that missing values made float without `.0`."""
    if outcome.dtype == "float64" and (outcome % 1 == 0).all():
        outcome = outcome.astype("int64")
    return outcome.astype(str)


def rounded(table: pa.Table, spec: Features) -> dict[str, tuple[int, int]]:
    """The features of which float32 keeps fewer different values: how many of how many."""
    import pyarrow as pa
    import pyarrow.compute as pc

    counts = {}
    for name in spec.features:
        column = table.column(name)
        if spec.is_category(name) or pa.types.is_boolean(column.type):
            continue
        wide = column.cast(pa.float64(), safe=False)
        # Smaller whole numbers are exact.
        if (pc.max(pc.abs(wide)).as_py() or 0) > LARGEST_WHOLE:
            before, after = (
                pc.count_distinct(c).as_py() for c in (column, wide.cast(pa.float32()))
            )
            if after < before:
                counts[name] = (after, before)
    return counts


def _require(
    table: pa.Table, name: str, is_kind: Callable[[pa.DataType], bool], expected: str
) -> None:
    kind = table.schema.field(name).type
    if not is_kind(kind):
        raise UserError(f"features: {name}: found {kind}, expected {expected}")


def _is(kind: pa.DataType, *names: str) -> bool:
    from pyarrow import types

    # A column of which nothing is known yet may be of any type.
    return any(getattr(types, f"is_{name}")(kind) for name in (*names, "null"))


def _is_number(kind: pa.DataType) -> bool:
    return _is(kind, "integer", "floating", "decimal", "boolean")


def _is_whole(kind: pa.DataType) -> bool:
    return _is(kind, "integer") or (_is(kind, "decimal") and getattr(kind, "scale", 0) == 0)


def _is_category(kind: pa.DataType) -> bool:
    """Whether values have one way to be written, wherever a model is asked; booleans have many."""
    return _is(kind, "string", "large_string", "dictionary") or _is_whole(kind)


def _require_finite(name: str, column: pa.ChunkedArray) -> None:
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_floating(column.type) and (count := pc.sum(pc.is_inf(column)).as_py()):
        raise UserError(
            f"features: {name}: infinite or too large for float32 in {count:,} rows, expected "
            "numbers below 3.4e38, or NULL where there is none"
        )


def write(table: pd.DataFrame, path: Path) -> None:
    """Write one part as Parquet; equal rows are equal bytes."""
    table.to_parquet(path, index=False)


def read(path: Path) -> pd.DataFrame:
    """Read one part."""
    import pandas as pd

    return pd.read_parquet(path)


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
