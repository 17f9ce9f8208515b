"""Columns in the types that a schema declares: a value that does not fit is found, not changed."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pandera.pandas as pa
import pyarrow as arrow
from pandas.api import types
from pandera.engines import pandas_engine

WHOLE = re.compile(r"([+-]?\d+)(\.0*)?")
TRUTH: dict[Any, bool] = {
    **{1: True, 0: False},
    **dict.fromkeys(("true", "t", "yes", "y", "1"), True),
    **dict.fromkeys(("false", "f", "no", "n", "0"), False),
}


class Kind(NamedTuple):
    """What a kind of column expects, how a value is read (`parse` raises for others) and kept."""

    expected: str
    dtype: Any
    parse: Callable[[Any], Any]
    kept: arrow.DataType


def declared(schema: pa.DataFrameSchema, rows: pd.DataFrame) -> dict[str, pa.Column]:
    """The schema's column of each of the rows' columns, where it has one, in its own order."""
    found: dict[str, pa.Column] = {}
    for name, column in schema.columns.items():
        names = column.get_regex_columns(rows) if column.regex else {name} & set(rows)
        found |= dict.fromkeys(names, column)
    return found


def kind(column: pa.Column) -> Kind | None:
    """How a column is read; None for types that Pandera alone knows."""
    dtype: Any = getattr(column.dtype, "type", None)
    form = (column.metadata or {}).get("format")
    other = 'such as 2021-04-30, or of its metadata "format"'
    expected = f"is a day or instant {form or other}"
    if types.is_bool_dtype(dtype):
        return Kind("is true or false", dtype, _truth, arrow.bool_())
    plain = getattr(dtype, "numpy_dtype", dtype)
    if types.is_integer_dtype(dtype):
        whole = partial(_whole, np.iinfo(plain))
        return Kind(f"is a whole number ({dtype})", dtype, whole, arrow.from_numpy_dtype(plain))
    if types.is_float_dtype(dtype):
        number = partial(_number, float(np.finfo(plain).max))
        return Kind(f"is a number ({dtype})", dtype, number, arrow.from_numpy_dtype(plain))
    if types.is_datetime64_any_dtype(dtype):
        zone = getattr(dtype, "tz", None)
        # Spark reads no nanoseconds.
        kept = arrow.timestamp("us", zone and str(zone))
        return Kind(expected, dtype, partial(_instant, form, zone), kept)
    if isinstance(column.dtype, pandas_engine.Date):
        day = lambda value: _instant(form, None, value).date()  # noqa: E731
        return Kind(expected, object, day, arrow.date32())
    if types.is_string_dtype(dtype) and not types.is_object_dtype(dtype):
        extension = isinstance(dtype, pd.StringDtype)
        return Kind("is text", dtype if extension else object, _text, arrow.string())
    return None


def read(values: pd.Series[Any], how: Kind) -> tuple[pd.Series[Any], pd.Series[bool]]:
    """The values in the column's type, and which do not fit; as they were where any does not.

    A missing value does not fit whole numbers and booleans of NumPy, which have none.
    """
    try:
        codes, unique = pd.factorize(values)
    except TypeError:  # Lists and the like.
        return values, values.notna()
    parsed, misfit = [], []
    for value in unique:
        try:
            parsed.append(how.parse(value))
            misfit.append(False)
        except Exception:
            misfit.append(True)
    has_missing = isinstance(how.dtype, np.dtype) and how.dtype.kind in "biu"
    wrong = pd.Series(np.array([*misfit, has_missing])[codes], index=values.index)
    if wrong.any():
        return values, wrong
    taken = pd.Series(parsed, dtype=how.dtype).array.take(codes, allow_fill=True)
    return pd.Series(taken, index=values.index, dtype=how.dtype), wrong


def _whole(limits: np.iinfo[Any], value: Any) -> int:
    if isinstance(value, str):
        match = WHOLE.fullmatch(value.strip())
        if not match:
            raise ValueError
        value = int(match[1])
    number = int(value)
    if number != value or not limits.min <= number <= limits.max:
        raise ValueError
    return number


def _number(limit: float, value: Any) -> float:
    if isinstance(value, str) and "_" in value:  # Python's own way to write 1000.
        raise ValueError
    number = float(value)
    if abs(number) > limit:  # Not so of a missing one.
        raise ValueError
    return number


def _truth(value: Any) -> bool:
    return TRUTH[value.strip().casefold() if isinstance(value, str) else value]


def _instant(form: str | None, zone: dt.tzinfo | None, value: Any) -> pd.Timestamp:
    """A day or instant in a zone; in UTC, where there is none. Text must be of the form, or ISO."""
    if isinstance(value, str):
        text = value.strip()
        value = dt.datetime.strptime(text, form) if form else dt.datetime.fromisoformat(text)
    if not isinstance(value, dt.date):
        raise TypeError
    instant = pd.Timestamp(value).as_unit("ns")
    if zone:
        return instant.tz_convert(zone) if instant.tzinfo else instant.tz_localize(zone)
    if instant.utcoffset():
        raise ValueError
    return instant.tz_localize(None)


def _text(value: Any) -> str:
    """Text as it is: a number is not the text that it was made of, such as 02139."""
    if not isinstance(value, str):
        raise TypeError
    return value
