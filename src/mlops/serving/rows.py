"""A bundle's columns as types that JSON is decoded into: what does not fit is named."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cached_property
from operator import itemgetter
from typing import Any

import msgspec
import numpy as np

from mlops.contract.bundle import Array
from mlops.serving.errors import BROKEN, Refusal, malformed, unknown
from mlops.serving.model import Batch, Model

Row = tuple[Any, ...]


class Rows(msgspec.Struct, frozen=True):
    """Decoded rows, not yet made a batch: `numbers` and `words`, a tuple for each row."""

    numbers: list[Row]
    words: list[Row]

    def __len__(self) -> int:
        return len(self.numbers)


class Columns:
    """What a model reads, as decoders for one row, many rows, or a column at a time.

    `limit` is the most rows that a request may have: what says early that it has more is not read.
    """

    def __init__(self, model: Model, limit: int) -> None:
        self.limit = limit
        self.names = (*model.numbers, *model.words)
        self.count = len(model.numbers)
        types = [(float | None)] * self.count + [(str | None)] * len(model.words)
        self.kinds: dict[str, Any] = dict(zip(self.names, types, strict=True))
        self.known = frozenset(self.names)
        # Columns may have names that no Python field can have.
        fields = [f"column_{number}" for number in range(len(self.names))]
        self.record: Any = msgspec.defstruct(
            "Record",
            list(zip(fields, types, strict=True)),
            rename=dict(zip(fields, self.names, strict=True)),
            forbid_unknown_fields=True,
            gc=False,
        )
        self._tables: dict[tuple[str, ...], _Table] = {}

    def rows(self, records: list[Any]) -> Rows:
        """Decoded records as rows."""
        count, tuples = self.count, [msgspec.structs.astuple(record) for record in records]
        return Rows([row[:count] for row in tuples], [row[count:] for row in tuples])

    def table(self, names: list[str], data: bytes, within: str) -> Rows:
        """Rows given as lists, their columns in any order; raises Refusal."""
        order = tuple(names)
        if order not in self._tables:
            self.require(names, within)
            if len(self._tables) > 64:
                self._tables.clear()
            self._tables[order] = _Table(self, order)
        table = self._tables[order]
        try:
            return table.rows(table.decoder.decode(data))
        except BROKEN as error:
            raise malformed(error, within, order) from None

    def too_many(self, found: str) -> Refusal:
        """What is said of more rows than are allowed."""
        return Refusal(413, f"body: found {found} rows, expected at most {self.limit}")

    def require(self, names: list[str], within: str) -> None:
        """Raise Refusal unless these are the columns, each once."""
        if len(names) == len(self.names) and self.known == set(names):
            return
        for name in names:
            if name not in self.known:
                raise Refusal(422, f"{within}: {unknown(name, self.names)}")
        for name in self.names:
            if names.count(name) != 1:
                state = "given twice" if name in names else "missing"
                raise Refusal(422, f"{within}: column {name!r}: {state}")

    @cached_property
    def column(self) -> dict[str, msgspec.json.Decoder[Any]]:
        """A decoder for a whole column, by its name."""
        return {
            name: msgspec.json.Decoder(list[kind])  # type: ignore[valid-type]
            for name, kind in self.kinds.items()
        }

    def batch(self, columns: dict[str, list[Any] | Array], within: str) -> Batch:
        """Whole columns as a batch; raises Refusal when one is longer than another."""
        self.require(list(columns), within)
        rows = len(columns[self.names[0]])
        for name, values in columns.items():
            if len(values) != rows:
                raise Refusal(
                    422, f"{within}.{name}: found {len(values)} rows, expected {rows} as in "
                    f"{self.names[0]!r}"
                )  # fmt: skip
        numbers = np.empty((rows, self.count), dtype=np.float32)
        words = np.empty((rows, len(self.names) - self.count), dtype=object)
        with np.errstate(over="ignore"):
            for position, name in enumerate(self.names[: self.count]):
                numbers[:, position] = columns[name]
        for position, name in enumerate(self.names[self.count :]):
            words[:, position] = [word or "" for word in columns[name]]
        return Batch(numbers, words)


class Order:
    """An order of columns that is not the model's: takes rows in it."""

    def __init__(self, columns: Columns, order: tuple[str, ...]) -> None:
        places = [order.index(name) for name in columns.names]
        self.numbers = _taking(places[: columns.count])
        self.words = _taking(places[columns.count :])

    def rows(self, found: Iterable[Row]) -> Rows:
        """Rows in this order as the model's."""
        found = list(found)
        return Rows([self.numbers(row) for row in found], [self.words(row) for row in found])


class _Table(Order):
    """Rows as lists in one order of columns, decoded."""

    def __init__(self, columns: Columns, order: tuple[str, ...]) -> None:
        super().__init__(columns, order)
        row = tuple.__class_getitem__(tuple(columns.kinds[name] for name in order))
        self.decoder = msgspec.json.Decoder(list[row])  # type: ignore[valid-type]


def _taking(places: list[int]) -> Callable[[Row], Row]:
    """What takes these places of a row, as a tuple."""
    if len(places) > 1:
        return itemgetter(*places)
    return lambda row: tuple(row[place] for place in places)
