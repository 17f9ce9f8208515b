"""The days that a query asks for, as bounds of a store's own query."""

from __future__ import annotations

import datetime as dt

from mlops.data.sources import Query


def bounds(query: Query, *, zoned: bool = False) -> list[tuple[str, dt.date]]:
    """Operators and days: at or after the first day, before the one that follows the last.

    Sources add the rows without a day, which ingest refuses. The local day of an instant with a
    zone (`zoned`) is another one than the store's by at most a day: one more is read on each side.
    """
    margin = dt.timedelta(days=int(zoned))
    first = [(">=", query.since - margin)] if query.since else []
    past = [("<", query.until + dt.timedelta(days=1) + margin)] if query.until else []
    return first + past
