"""A model's columns as types that JSON is decoded into, and what is made of decoded rows."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, get_args

import msgspec

from mlops.serving.errors import Refusal, decode, unknown_column
from mlops.serving.model import Model, Row, Rows

# Orders of columns whose decoders are kept.
ORDERS = 64
TABLE = "dataframe_split.data"
Value = float | str | bool | None
BOOLEAN = {bool, type(None)}


class Columns:
    """Decoders for one record, rows in any order of columns, or a column; `limit`: most rows."""

    def __init__(self, model: Model, limit: int) -> None:
        self.limit = limit
        self.key = model.card.key
        self.names = (*model.numeric, *model.categorical)
        self.count = len(model.numeric)
        types = [(float | None)] * self.count + [(str | None)] * len(model.categorical)
        self.types: dict[str, Any] = dict(zip(self.names, types, strict=True))
        self._features = set(self.names)
        if self.key:
            self.types[self.key] = str
        self.optional, self.retired = set(model.card.optional), model.card.retired
        # A record may have the retired columns and its key, behind the others. Columns may have
        # names that no Python field can have.
        names = dict(enumerate((*self.names, *self.retired, *([self.key] if self.key else []))))
        fields = [
            (f"column_{number}", self.types.get(name, Any), *[None] * self.may_be_left_out(name))
            for number, name in names.items()
        ]
        renamed = {f"column_{number}": name for number, name in names.items()}
        self.record: Any = msgspec.defstruct(
            "Record", fields, forbid_unknown_fields=True, rename=renamed, gc=False, kw_only=True
        )
        self._allowed = {name: set(get_args(kind)) for name, kind in self.types.items()}
        self._order = lru_cache(ORDERS)(self._in_order)

    def rows(self, records: list[Any]) -> Rows:
        """Rows of decoded records."""
        count, end = self.count, len(self.names)
        tuples = [msgspec.structs.astuple(record) for record in records]
        keys: list[Any] = [row[-1] for row in tuples] if self.key else [None]
        named = None if None in keys else keys
        return Rows([row[:count] for row in tuples], [row[count:end] for row in tuples], named)

    def table(self, names: list[str], data: msgspec.Raw) -> Rows:
        """Rows of JSON lists, their columns in any order; raises Refusal."""
        decoder, numeric, categorical, partial = self._order(tuple(names))
        rows = decode(decoder, data, TABLE, names)
        keys = [row[names.index(self.key)] for row in rows] if self.key in names else None
        if -1 in numeric or -1 in categorical:
            rows = [(*row, None) for row in rows]
        return Rows(
            [tuple([row[position] for position in numeric]) for row in rows],
            [tuple([row[position] for position in categorical]) for row in rows],
            keys,
            partial,
        )

    def keyed(self, keys: list[str], overrides: dict[str, list[Any]]) -> Rows:
        """Rows that are looked up by these keys, but for the features that are given."""
        for name, values in overrides.items():
            if name not in self._features:
                raise Refusal(422, f"overrides: {unknown_column(name, self.names)}")
            self.require_values(name, values, "overrides")
        if not overrides:
            return Rows([], [], keys, partial=True)
        return self.transposed({self.key: keys, **overrides}, "overrides", partial=True)

    def require_values(
        self, name: str, values: list[Any], form: str, part: str = "", boolean: bool = False
    ) -> None:
        """Raise Refusal unless these are values of a column, or boolean where they may be.

        A refusal names their place, `form.name` and its part.
        """
        if not (BOOLEAN if boolean else self._allowed[name]).issuperset(map(type, values)):
            kind = bool | None if boolean else self.types[name]
            decoder = msgspec.json.Decoder(list[kind])  # type: ignore[valid-type]
            decode(decoder, msgspec.json.encode(values), f"{form}.{name}{part}")

    def require(self, names: Sequence[str], place: str) -> bool:
        """Raise Refusal unless these are the columns, each once; some may be left out.

        Where the key is among them, all of them may: gives whether any must be looked up by it.
        """
        if len(names) == len(self.names) and self._features == set(names):
            return False
        partial = False
        for name in names:
            if name not in self.types and name not in self.retired:
                raise Refusal(422, f"{place}: {unknown_column(name, self.names)}")
        for name in (*self.names, *self.retired, *([self.key] if self.key else [])):
            count = names.count(name)
            if count > 1:
                raise Refusal(422, f"{place}: column {name!r}: given twice")
            if count == 0 and not self.may_be_left_out(name):
                if self.key not in names:
                    raise Refusal(422, f"{place}: column {name!r}: missing")
                partial = True
        return partial

    def may_be_left_out(self, name: str) -> bool:
        """Whether a request may leave a column out."""
        return name in self.optional or name in self.retired or name == self.key

    def transposed(self, columns: dict[str, list[Any]], place: str, partial: bool = False) -> Rows:
        """Rows of whole columns; raises Refusal when one is longer than another."""
        names = self.names[: self.count], self.names[self.count :]
        first = next((name for name in (self.key, *self.names) if name in columns), "")
        rows = len(columns.get(first, ()))
        for name, values in columns.items():
            if len(values) != rows:
                found = f"found {len(values)} rows, expected {rows} as in {first!r}"
                raise Refusal(422, f"{place}.{name}: {found}")
        missing = [None] * rows
        numeric, categorical = ([columns.get(name, missing) for name in group] for group in names)
        none: list[Row] = [()] * rows
        return Rows(
            list(zip(*numeric, strict=True)) or none,
            list(zip(*categorical, strict=True)) or none,
            columns.get(self.key),
            partial,
        )

    def _in_order(self, names: tuple[str, ...]) -> tuple[Any, list[int], list[int], bool]:
        """A decoder of rows, where they have each kind of column, -1 for one left out, and whether
        any must be looked up."""
        partial = self.require(names, TABLE)
        row = tuple.__class_getitem__(tuple(self.types.get(name, Any) for name in names))
        positions = [names.index(name) if name in names else -1 for name in self.names]
        decoder = msgspec.json.Decoder(list[row])  # type: ignore[valid-type]
        return decoder, positions[: self.count], positions[self.count :], partial
