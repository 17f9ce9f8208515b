"""A model's columns as types that JSON is decoded into; what does not fit is named."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from operator import itemgetter
from typing import Any

import msgspec
import numpy as np

from mlops.contract.bundle import Array
from mlops.serving.errors import (
    UNDECODABLE,
    Refusal,
    decode,
    kind_of,
    require_kind,
    undecodable,
    unknown_column,
)
from mlops.serving.model import Batch, Model

Row = tuple[Any, ...]
ANY: msgspec.json.Decoder[Any] = msgspec.json.Decoder()
# Of larger bodies in bytes it is not looked for the value that is wrong: msgspec names its place.
LARGEST_EXPLAINED = 2**20
# Orders of columns whose decoders are kept.
ORDERS = 64


class Rows(msgspec.Struct, frozen=True):
    """Decoded rows, not yet arrays: for each row a tuple of `numeric` and of `categorical` values,
    None where one is missing."""

    numeric: list[Row]
    categorical: list[Row]

    def __len__(self) -> int:
        return len(self.numeric)


class Columns:
    """Decoders for one record, many records, rows in any order of columns, or one column.

    `limit` is the most rows that a request may have.
    """

    def __init__(self, model: Model, limit: int) -> None:
        self.limit = limit
        self.names = (*model.numeric, *model.categorical)
        self.count = len(model.numeric)
        types = [(float | None)] * self.count + [(str | None)] * len(model.categorical)
        self.types: dict[str, Any] = dict(zip(self.names, types, strict=True))
        self.kinds = dict(zip(self.names, ("number",) * self.count, strict=False))
        self.kinds |= dict.fromkeys(model.categorical, "string")
        # Columns may have names that no Python field can have.
        fields = [f"column_{number}" for number in range(len(self.names))]
        self.record: Any = msgspec.defstruct(
            "Record",
            list(zip(fields, types, strict=True)),
            rename=dict(zip(fields, self.names, strict=True)),
            forbid_unknown_fields=True,
            gc=False,
        )
        self._orders: dict[tuple[str, ...], _Order] = {}

    def rows(self, records: list[Any]) -> Rows:
        """Rows of decoded records."""
        count, tuples = self.count, [msgspec.structs.astuple(record) for record in records]
        return Rows([row[:count] for row in tuples], [row[count:] for row in tuples])

    def table(self, names: list[str], data: bytes, place: str) -> Rows:
        """Rows of JSON lists, their columns in any order; raises Refusal."""
        order = tuple(names)
        if order not in self._orders:
            self.require(names, place)
            if len(self._orders) >= ORDERS:
                self._orders.clear()
            self._orders[order] = _Order(self, order)
        columns = self._orders[order]
        try:
            rows = columns.decoder.decode(data)
        except UNDECODABLE as error:
            raise self._wrong_table(data, order, place) or undecodable(error, place) from None
        return Rows([columns.numeric(row) for row in rows],
                    [columns.categorical(row) for row in rows])  # fmt: skip

    def values(self, name: str, data: bytes | msgspec.Raw, place: str) -> list[Any]:
        """One column's values of a JSON list; raises Refusal."""
        try:
            values: list[Any] = self._column[name].decode(data)
        except UNDECODABLE as error:
            wrong = wrong_values(data, self.kinds[name], place)
            raise wrong or undecodable(error, place) from None
        return values

    def wrong_record(self, content: Any, place: str) -> Refusal | None:
        """What is wrong with decoded records: a list of objects, or a lone object."""
        try:
            if not isinstance(content, list):
                self._require_record(content, place)
                return None
            for row, record in enumerate(content):
                self._require_record(record, f"{place}[{row}]")
        except Refusal as refusal:
            return refusal
        return None

    def require(self, names: list[str], place: str) -> None:
        """Raise Refusal unless these are the columns, each once."""
        if len(names) == len(self.names) and self.types.keys() == set(names):
            return
        for name in names:
            if name not in self.types:
                raise Refusal(422, f"{place}: {unknown_column(name, self.names)}")
        for name in self.names:
            if names.count(name) != 1:
                state = "given twice" if name in names else "missing"
                raise Refusal(422, f"{place}: column {name!r}: {state}")

    def too_many(self, rows: str) -> Refusal:
        """The refusal of more rows than are allowed."""
        return Refusal(413, f"body: found {rows} rows, expected at most {self.limit}")

    def batch(self, columns: dict[str, list[Any] | Array], place: str) -> Batch:
        """Whole columns as a batch; raises Refusal when one is longer than another."""
        self.require(list(columns), place)
        rows = len(columns[self.names[0]])
        for name, values in columns.items():
            if len(values) != rows:
                raise Refusal(
                    422, f"{place}.{name}: found {len(values)} rows, expected {rows} as in "
                    f"{self.names[0]!r}"
                )  # fmt: skip
        numeric = np.empty((rows, self.count), dtype=np.float32)
        categorical = np.empty((rows, len(self.names) - self.count), dtype=object)
        with np.errstate(over="ignore"):
            for position, name in enumerate(self.names[: self.count]):
                numeric[:, position] = columns[name]
        for position, name in enumerate(self.names[self.count :]):
            categorical[:, position] = [value or "" for value in columns[name]]
        return Batch(numeric, categorical)

    @cached_property
    def _column(self) -> dict[str, msgspec.json.Decoder[Any]]:
        return {
            name: msgspec.json.Decoder(list[type_])  # type: ignore[valid-type]
            for name, type_ in self.types.items()
        }

    def _require_record(self, record: Any, place: str) -> None:
        where = place or "body"
        if not isinstance(record, dict):
            raise Refusal(422, f"{where}: found {kind_of(record)}, expected object")
        self.require(list(record), where)
        for name, value in record.items():
            require_kind(value, self.kinds[name], f"{place}.{name}".lstrip("."))

    def _wrong_table(self, data: bytes, order: tuple[str, ...], place: str) -> Refusal | None:
        try:
            for number, row in enumerate(_listed(_content(data), place)):
                values = _listed(row, f"{place}[{number}]")
                if len(values) != len(order):
                    raise Refusal(
                        422, f"{place}[{number}]: found {len(values)} values, expected {len(order)}"
                    )
                for name, value in zip(order, values, strict=True):
                    require_kind(value, self.kinds[name], f"{place}[{number}].{name}")
        except Refusal as refusal:
            return refusal
        except UNDECODABLE:
            pass
        return None


class _Order:
    """Rows in one order of columns: their decoder, and what picks the model's columns."""

    def __init__(self, columns: Columns, order: tuple[str, ...]) -> None:
        row = tuple.__class_getitem__(tuple(columns.types[name] for name in order))
        self.decoder = msgspec.json.Decoder(list[row])  # type: ignore[valid-type]
        positions = [order.index(name) for name in columns.names]
        self.numeric = _picking(positions[: columns.count])
        self.categorical = _picking(positions[columns.count :])


def _picking(positions: list[int]) -> Callable[[Row], Row]:
    """A function that picks these positions of a row, as a tuple."""
    if len(positions) > 1:
        return itemgetter(*positions)
    return lambda row: tuple(row[position] for position in positions)


def read(
    decoder: msgspec.json.Decoder[Any], body: bytes, wrong: Callable[[Any], Refusal | None]
) -> Any:
    """Decode a body; raises Refusal, that of `wrong` where it finds a record or column at fault."""
    try:
        return decode(decoder, body)
    except msgspec.ValidationError as error:
        try:
            refusal = wrong(_content(body))
        except UNDECODABLE:
            refusal = None
        raise refusal or undecodable(error) from None
    except UNDECODABLE as error:
        raise undecodable(error) from None


def wrong_values(data: bytes | msgspec.Raw, kind: str, place: str) -> Refusal | None:
    """What is wrong with a JSON list of values of one kind."""
    try:
        for row, value in enumerate(_listed(_content(data), place)):
            require_kind(value, kind, f"{place}[{row}]")
    except Refusal as refusal:
        return refusal
    except UNDECODABLE:
        pass
    return None


def _content(data: bytes | msgspec.Raw) -> Any:
    """JSON as Python's own types; raises one of `UNDECODABLE`, for large ones too."""
    whole = bytes(data)
    if len(whole) > LARGEST_EXPLAINED:
        raise msgspec.DecodeError("too large")
    return decode(ANY, whole)


def _listed(content: Any, place: str) -> list[Any]:
    if not isinstance(content, list):
        raise Refusal(422, f"{place}: found {kind_of(content)}, expected array")
    return content
