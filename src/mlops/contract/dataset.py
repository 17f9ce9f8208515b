"""The feature table: its types, its two parts on disk, and the days by which it is split."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops.base.errors import UserError, nearest
from mlops.contract.project import Features, Task

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import pyarrow as pa

TRAINING = "training.parquet"
HOLDOUT = "holdout.parquet"


def typed(table: pa.Table, spec: Features) -> pd.DataFrame:
    """The declared columns in their order and types, rows ordered by day and key.

    Numbers become float32, what models and ONNX both compute with; categories become strings.
    Raises UserError for a declared column that the project's code did not make.
    """
    import pyarrow as pa

    for name in spec.columns:
        if name not in table.column_names:
            hint = nearest(name, table.column_names)
            raise UserError(f"features: {name}: declared, but not made{hint}")
    roles = {spec.day: pa.timestamp("ms"), spec.key: pa.string()}
    numeric = {n: pa.float32() for n in spec.features if _is_number(table.schema.field(n).type)}
    # Arrow sorts and casts several times faster than Pandas.
    table = table.select(spec.columns)
    for name, kind in {**numeric, **roles}.items():
        column = table.column(name).cast(kind, safe=False)
        table = table.set_column(table.column_names.index(name), name, column)
    fractional = pa.types.is_floating(table.schema.field(spec.target).type)
    frame: pd.DataFrame = table.sort_by([(n, "ascending") for n in roles]).to_pandas(
        ignore_metadata=True
    )
    frame[spec.target] = frame[spec.target].astype("float64" if fractional else "Int64")
    return frame


def _is_number(kind: pa.DataType) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


def write(table: pd.DataFrame, path: Path) -> None:
    """Write one part as Parquet; equal rows are equal bytes."""
    table.to_parquet(path, index=False)


def read(path: Path) -> pd.DataFrame:
    """Read one part."""
    import pandas as pd

    return pd.read_parquet(path)


def target(table: pd.DataFrame, spec: Features, task: Task) -> pd.Series[int] | pd.Series[float]:
    """The target's values: class numbers 0 to k-1 as int64, or float64 for a regression."""
    return table[spec.target].astype("float64" if task == "regression" else "int64")


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


def with_prediction(table: pd.DataFrame, prediction: np.ndarray[Any, Any]) -> pd.DataFrame:
    """The table with the column `prediction`, or `prediction_<class>` where there are several."""
    if prediction.ndim == 1:
        return table.assign(prediction=prediction)
    return table.assign(**{f"prediction_{i}": column for i, column in enumerate(prediction.T)})


def validation_starts(last: dt.date, days: int, folds: int) -> list[dt.date]:
    """First days of the rolling validation periods that end at `last`, earliest first."""
    return [last - dt.timedelta(days=days * back - 1) for back in range(folds, 0, -1)]
