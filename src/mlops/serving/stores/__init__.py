"""Where features are published by key, and looked up: a file for each kind of store.

A store's module has `publish(location, columns, rows, made)`, which replaces what was published,
`about(location)`, and `connect(location)`, which gives a `Reader`. `rows` are keys with their
packed features, `made` is when they were made, in seconds since 1970.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Protocol

import msgspec
import numpy as np

from mlops.base.errors import UserError
from mlops.contract import extensions

if TYPE_CHECKING:
    import pyarrow as pa

Packed = tuple[str, bytes]
FUNCTIONS = ("publish", "about", "connect")
# Characters of a key.
LONGEST_KEY = 512


class Unavailable(Exception):
    """The store can't be read now; says why in one line."""


class Columns(msgspec.Struct, frozen=True):
    """The names of the published features, numbers and categories apart."""

    numeric: tuple[str, ...]
    categorical: tuple[str, ...]


class Stored(msgspec.Struct, frozen=True, array_like=True):
    """One key's features: `numeric` are float32, little-endian, NaN where one is missing;
    `categorical` are "" where one is. `made` is in seconds since 1970."""

    made: float
    numeric: bytes
    categorical: tuple[str, ...]


class About(msgspec.Struct, frozen=True, array_like=True):
    """What was published: how many keys, with which columns, when, in seconds since 1970."""

    keys: int
    columns: Columns
    made: float


class Reader(Protocol):
    """A connection to a store."""

    async def get(self, keys: Sequence[str]) -> tuple[Columns, list[Stored | None]]:
        """What was published for each of these keys; raises Unavailable."""

    async def close(self) -> None:
        """End the connection."""


class Store(Protocol):
    """A kind of store: a module of this room, or the user's own."""

    def publish(self, location: str, columns: Columns, rows: Iterable[Packed], made: float) -> None:
        """Replace what was published; until that is whole, the earlier features are read."""

    def about(self, location: str) -> About | None:
        """What was published; None where nothing was."""

    def connect(self, location: str) -> Reader:
        """Connect to the store; it need not be there yet."""


def store(name: str, place: str = "--store") -> Store:
    """The kind of store that `place` names. Raises UserError for an unknown one."""
    module: Store = extensions.resolve(place, name, __name__, FUNCTIONS)
    return module


unpack = msgspec.msgpack.Decoder(Stored).decode
pack = msgspec.msgpack.Encoder().encode


def packed(
    batches: Iterable[pa.RecordBatch], key: str, columns: Columns, made: float
) -> Iterator[Packed]:
    """The rows of a feature table, by key. Raises UserError for a row without a key, or with one
    that no request may have."""
    for batch in batches:
        numbers = [np.asarray(batch[n], dtype="<f4") for n in columns.numeric]
        matrix = np.stack(numbers, axis=1) if numbers else np.empty((len(batch), 0), dtype="<f4")
        texts = [batch[name].to_pylist() for name in columns.categorical]
        for place, name in enumerate(batch[key].to_pylist()):
            if not name:
                raise UserError(f"features: {key}: found a row without one")
            if len(name) > LONGEST_KEY:
                found = f"features: {key}: found {len(name)} characters: {name[:40]!r}"
                raise UserError(f"{found}, expected at most {LONGEST_KEY}")
            categories = tuple(column[place] or "" for column in texts)
            yield name, pack(Stored(made, matrix[place].tobytes(), categories))
