"""Where raw tables come from: one file per kind of source, each with `read` and `fingerprint`.

`read(location, names)` gives the raw tables as data frames, by name; `location` is
`data.location` of `params.yaml`, `names` are the tables of the project's `tables.py`.
`fingerprint(location, names)` names what `read` would read, and the state that each is in: any
text that is another one when the content is.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from mlops.base.errors import UserError
from mlops.contract import extensions

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa


@dataclass(frozen=True)
class Query:
    """What is asked of one table: its name and, where a source can leave the others out, its
    columns (None: all), and the days from `since` to `until`, both among them, of column `day`.

    A source that holds versions of a table reads `version`, or the newest.
    """

    name: str
    columns: tuple[str, ...] | None = None
    day: str | None = None
    since: dt.date | None = None
    until: dt.date | None = None
    version: int | None = None


class Rows(NamedTuple):
    """A table as a stream: the names of all the columns that the source has, and batches of those
    asked for, in the source's types (text where it has none, as CSV)."""

    columns: tuple[str, ...]
    batches: Iterator[pa.RecordBatch]


class Unreachable(UserError):
    """The place that the source reads is not there, or does not answer."""


class Source(NamedTuple):
    """The two functions of a source."""

    read: Callable[[str, Iterable[str]], dict[str, pd.DataFrame]]
    fingerprint: Callable[[str, Iterable[str]], dict[str, str]]


def source(name: str) -> Source:
    """The source that `data.source` names. Raises UserError for an unknown one."""
    attributes = Source._fields
    module = extensions.resolve("params.yaml: data.source", name, __name__, attributes)
    return Source(*(getattr(module, attribute) for attribute in attributes))
