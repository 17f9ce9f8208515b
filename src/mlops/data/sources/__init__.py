"""Where raw tables come from: one file per kind of source, each with `read` and `fingerprint`.

`read(location, query)` gives the rows of one table as a stream; `location` is `data.location` of
`params.yaml`. It leaves out what it can of what the query does not ask for; ingest leaves out the
rest. `fingerprint(location, queries)` names what `read` would read of these tables, and the state
that each is in: any text that is another one when the content is. A source that an engine reads
where it lies has `frame(session, location, query)` too, which gives a table as a DataFrame.
"""

from __future__ import annotations

import datetime as dt
import operator
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from mlops.base.errors import UserError
from mlops.contract import extensions

if TYPE_CHECKING:
    import pyarrow as pa
# Those of `Query.bounds`, for expressions of SQLAlchemy and Spark.
OPERATORS = {">=": operator.ge, "<": operator.lt}


@dataclass(frozen=True)
class Query:
    """What is asked of one table: its name and, where a source can leave the others out, its
    columns (None: all), and the days from `since` to `until`, both among them, of column `day`.

    A source may lack some of the columns. One that holds versions of a table reads `version`, or
    the newest.
    """

    name: str
    columns: tuple[str, ...] | None = None
    day: str | None = None
    since: dt.date | None = None
    until: dt.date | None = None
    version: int | None = None

    def bounds(self, *, zoned: bool = False) -> list[tuple[str, dt.date]]:
        """Operators and days: at or after the first day, before the one that follows the last.

        Sources add the rows without a day, which ingest refuses. The local day of an instant with a
        zone (`zoned`) is another one than the store's by at most a day: one more is read on each
        side.
        """
        margin = dt.timedelta(days=int(zoned))
        first = [(">=", self.since - margin)] if self.since else []
        past = [("<", self.until + dt.timedelta(days=1) + margin)] if self.until else []
        return first + past


class Rows(NamedTuple):
    """A table as a stream: the names of all the columns that the source has, and batches of those
    asked for, in the source's types (text where it has none, as CSV)."""

    columns: tuple[str, ...]
    batches: Iterator[pa.RecordBatch]


class Unreachable(UserError):
    """The place that the source reads is not there, or does not answer."""


class Source(NamedTuple):
    """The two functions of a source."""

    read: Callable[[str, Query], Rows]
    fingerprint: Callable[[str, Sequence[Query]], dict[str, str]]


def source(name: str) -> Source:
    """The source that `data.source` names. Raises UserError for an unknown one."""
    attributes = Source._fields
    module = extensions.resolve("params.yaml: data.source", name, __name__, attributes)
    return Source(*(getattr(module, attribute) for attribute in attributes))


def frame(name: str) -> Callable[[Any, str, Query], Any]:
    """The function of a source that gives its tables as DataFrames of an engine's session."""
    module = extensions.resolve("params.yaml: data.source", name, __name__, ("frame",))
    function: Callable[[Any, str, Query], Any] = module.frame
    return function


def no_versions(name: str, queries: Sequence[Query]) -> None:
    """Raise UserError where a version is asked of a source that holds none."""
    for query in queries:
        if query.version is not None:
            found = f"{query.name}: found {query.version}, but {name} holds no versions"
            raise UserError(f"params.yaml: data.versions: {found}")
