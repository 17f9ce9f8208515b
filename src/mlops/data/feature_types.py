"""The types of the feature table: what is declared of each column, whatever engine made it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from mlops.base.errors import UserError, nearest
from mlops.contract.dataset import names
from mlops.contract.project import CATEGORY, Features

if TYPE_CHECKING:
    import pyarrow as pa

# Up to here float32 holds every whole number.
LARGEST_WHOLE = 2**24


def require_made(columns: Sequence[str], spec: Features) -> None:
    """Raise UserError for a declared column that the project's code did not make once."""
    for name in spec.columns:
        if list(columns).count(name) != 1:
            found = "made twice" if name in columns else f"not made{nearest(name, columns)}"
            raise UserError(f"features: {name}: declared, but {found}")


def order(spec: Features) -> list[Any]:
    """The rows' order, as expressions of the engine: by day and by the key as text."""
    from pyspark.sql import functions as F

    key = F.col(spec.key).cast("string")
    return [F.col(spec.day), key] if spec.day else [key]


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
