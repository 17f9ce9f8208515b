"""The feature table: its types, its two parts on disk, and the days by which it is split."""

from __future__ import annotations

import datetime as dt
import hashlib
import os
from collections import Counter
from collections.abc import Callable, Sequence
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


def require_made(columns: Sequence[str], spec: Features) -> None:
    """Raise UserError for a declared column that the project's code did not make once."""
    for name in spec.columns:
        if list(columns).count(name) != 1:
            found = "made twice" if name in columns else f"not made{nearest(name, columns)}"
            raise UserError(f"features: {name}: declared, but {found}")


class Typing:
    """The declared columns of a stream of rows, in their order and types.

    Features become what `FEATURES` declares: categories are strings, all others are float32, what
    models and ONNX both compute with. Raises UserError for a column whose values are not what it is
    declared as; rows at fault are counted until `require_sound`. `largest` has each feature's
    largest number.
    """

    def __init__(self, made: pa.Schema, spec: Features) -> None:
        import pyarrow as pa

        self.spec, self.largest = spec, dict.fromkeys(spec.features, 0.0)
        self._missing, self._infinite = Counter[str](), Counter[str]()
        kinds = {name: made.field(name).type for name in spec.columns}
        kinds |= dict.fromkeys(spec.order, pa.string())
        if spec.day:
            _require(made, spec.day, lambda k: _is(k, "date", "timestamp"), "a date or a timestamp")
            kinds[spec.day] = pa.timestamp("ms")
        for name in spec.features:
            if spec.is_category(name):
                expected = "text or a whole number; a boolean is a number, 0 or 1: give it a unit"
                _require(made, name, _is_category, expected)
                kinds[name] = pa.string()
            else:
                _require(made, name, _is_number, f"a number, or '{CATEGORY}' as its unit")
                kinds[name] = pa.float32()
        kinds[spec.target] = _outcome(made.field(spec.target).type, spec)
        self.schema = pa.schema(list(kinds.items()))

    def batch(self, rows: pa.Table) -> pa.Table:
        """The same rows in the types of `schema`; what is not a number is missing."""
        import pyarrow as pa
        import pyarrow.compute as pc

        columns = []
        for name, kind in zip(self.schema.names, self.schema.types, strict=True):
            column = rows.column(name)
            is_number = name in self.spec.features and kind == pa.float32()
            if name in self.spec.order:
                self._missing[name] += column.null_count
            if is_number and pa.types.is_boolean(column.type):
                column = column.cast(pa.uint8())
            if is_number:
                largest = pc.max(pc.abs(column.cast(pa.float64(), safe=False))).as_py()
                self.largest[name] = max(self.largest[name], largest or 0.0)
            column = column.cast(kind, safe=name == self.spec.target)
            if pa.types.is_floating(kind):
                column = pc.if_else(pc.is_nan(column), None, column)
            if is_number:
                self._infinite[name] += pc.sum(pc.is_inf(column)).as_py() or 0
            columns.append(column)
        table = pa.table(columns, schema=self.schema)
        _require_outcomes(table.column(self.spec.target), self.spec)
        return table

    def require_sound(self) -> None:
        """Raise UserError for the first column that rows lack, or that is too large in some."""
        for name, count in self._missing.items():
            if count:
                missing = f"{count:,} rows without a value, expected one in every row"
                raise UserError(f"features: {name}: {missing}")
        for name, count in self._infinite.items():
            if count:
                raise UserError(
                    f"features: {name}: infinite or too large for float32 in {count:,} rows, "
                    "expected numbers below 3.4e38, or NULL where there is none"
                )


def _outcome(kind: pa.DataType, spec: Features) -> pa.DataType:
    """The target is whole numbers, numbers or names. Raises UserError for anything else."""
    import pyarrow as pa

    if not (_is_number(kind) or _is_category(kind)):
        found = f"found {kind}, expected a number, text or a boolean"
        raise UserError(f"features: {spec.target}: {found}")
    if not _is_number(kind):
        return pa.string()
    return pa.int64() if _is_whole(kind) or _is(kind, "boolean") else pa.float64()


def _require_outcomes(values: pa.ChunkedArray, spec: Features) -> None:
    import pyarrow as pa
    import pyarrow.compute as pc

    place = f"features: {spec.target}"
    if pa.types.is_floating(values.type) and pc.any(pc.is_inf(values)).as_py():
        raise UserError(f"{place}: found an infinite value, expected finite numbers")
    for value in names(values.unique().drop_null().to_pandas()) if spec.classes else ():
        if value not in spec.classes:
            hint = nearest(value, spec.classes) or f": {', '.join(spec.classes)}"
            raise UserError(f"{place}: found {value!r}, expected one of CLASSES{hint}")


def names(outcome: pd.Series[Any]) -> pd.Series[str]:
    """The target's values as text; whole numbers that missing values made float without `.0`."""
    if outcome.dtype == "float64" and (outcome % 1 == 0).all():
        outcome = outcome.astype("int64")
    return outcome.astype(str)


def _require(
    made: pa.Schema, name: str, is_kind: Callable[[pa.DataType], bool], expected: str
) -> None:
    if not is_kind(kind := made.field(name).type):
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


def write(table: pd.DataFrame, path: Path) -> None:
    """Write one part as Parquet; equal rows are equal bytes."""
    table.to_parquet(path, index=False)


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

    total = pq.read_metadata(path).num_rows
    if most is None or total <= most:
        return read(path), total
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
        frame: pd.DataFrame = database.sql(query).to_arrow_table().to_pandas()
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
