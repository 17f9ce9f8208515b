"""Looks up what requests by key leave out: features that were published before."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from mlops.base.errors import listed
from mlops.contract.bundle import Array
from mlops.serving.errors import Refusal, too_many_rows
from mlops.serving.metrics import Metrics
from mlops.serving.model import Model, Row, Rows
from mlops.serving.settings import Settings
from mlops.serving.stores import LONGEST_KEY, Columns, Stored, Unavailable, store

# Seconds by which clocks may differ.
SKEW = 300.0
HOUR = 3600.0


class Lookup:
    """A store of features, and how old they may be."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self._settings, self._metrics = settings, metrics
        self._places = lru_cache(4)(_places)
        # Finding a child by its labels takes longer than counting.
        self._found = metrics.keys.labels("found")
        self._reader = None
        if settings.features:
            self._reader = store(settings.store).connect(settings.features)

    async def complete(self, model: Model, rows: Rows) -> tuple[Rows, list[float]]:
        """The rows with their features, and how old these are, in seconds; raises Refusal.

        A value that the request has stands before the published one.
        """
        keys = rows.keys or []
        if len(keys) > self._settings.rows:
            raise too_many_rows(str(len(keys)), self._settings.rows)
        for place, key in enumerate(keys):
            if not 0 < len(key) <= LONGEST_KEY:
                found = f"keys[{place}]: found {len(key)} characters"
                raise Refusal(422, f"{found}, expected 1 to {LONGEST_KEY}")
        if self._reader is None:
            raise Refusal(422, "keys: this service has no features by key; expected all columns")
        try:
            columns, published = await self._reader.get(keys)
            numeric, categorical, lacks_numbers = self._places(columns, model)
            pairs = zip(keys, published, strict=True)
            stored = [self._fresh(place, *pair) for place, pair in enumerate(pairs)]
            _require_whole(columns, keys, stored)
        except Unavailable as error:
            self._metrics.keys.labels("unavailable").inc(len(keys))
            raise Refusal(503, f"features: {error}", **{"retry-after": "1"}) from None
        self._found.inc(len(keys))
        now = time.time()
        # An array for all rows: numbers of Python's own would take as long as the rest.
        read = np.frombuffer(b"".join([one.numeric for one in stored]), dtype="<f4")
        table = read.reshape(len(stored), len(columns.numeric))
        if lacks_numbers:
            table = np.column_stack([table, np.full(len(table), np.nan, dtype="<f4")])
        numbers: list[Any] = list(table[:, numeric])
        texts = [_picked(one.categorical, categorical) for one in stored]
        if rows.numeric:
            numbers = [_merged(*pair) for pair in zip(rows.numeric, numbers, strict=True)]
            texts = [_merged(*pair) for pair in zip(rows.categorical, texts, strict=True)]
        return Rows(numbers, texts, keys), [round(max(now - one.made, 0.0), 3) for one in stored]

    def _fresh(self, place: int, key: str, stored: Stored | None) -> Stored:
        """What was published for a key; raises Refusal where it is nothing, or too old."""
        if stored is None:
            self._metrics.keys.labels("unknown").inc()
            raise Refusal(422, f"keys[{place}]: found {key[:80]!r}, expected a published key")
        self._metrics.made.set(stored.made)
        age, most = time.time() - stored.made, self._settings.stale_after * HOUR
        if not -SKEW <= age <= most:
            self._metrics.keys.labels("stale").inc()
            found = f"features are {age / HOUR:,.1f} hours old"
            if age < 0:
                found = f"features are made {-age / HOUR:,.1f} hours ahead of this clock"
            expected = f"expected at most {most / HOUR:g} hours"
            raise Refusal(503, f"keys[{place}]: {key[:80]!r}: {found}, {expected}")
        return stored

    async def close(self) -> None:
        """End the connection to the store."""
        if self._reader:
            await self._reader.close()


def _places(columns: Columns, model: Model) -> tuple[Array, list[int], bool]:
    """Where the published features have each of the model's columns; raises Unavailable without
    one.

    An optional column that was not published is missing: -1; and whether a numeric one is.
    """
    places = []
    for names, published in (
        (model.numeric, columns.numeric), (model.categorical, columns.categorical),
    ):  # fmt: skip
        lost = [name for name in names if name not in (*published, *model.card.optional)]
        if lost:
            raise Unavailable(
                f"found no column {listed(lost)}, which bundle {model.digest[:12]} needs; "
                "publish them anew (mlops features)"
            )
        places.append([published.index(name) if name in published else -1 for name in names])
    return np.array(places[0], dtype=np.intp), places[1], -1 in places[0]


def _require_whole(columns: Columns, keys: Sequence[str], stored: Sequence[Stored]) -> None:
    """Raise Unavailable for a key with other than a value for each column."""
    expected = 4 * len(columns.numeric), len(columns.categorical)
    for key, one in zip(keys, stored, strict=True):
        if (len(one.numeric), len(one.categorical)) != expected:
            raise Unavailable(f"{key[:80]!r}: damaged; publish them anew (mlops features)")


def _picked(values: Sequence[str], places: list[int]) -> Row:
    return tuple([None if place < 0 else values[place] for place in places])


def _merged(given: Row, published: Row) -> Row:
    pairs = zip(given, published, strict=True)
    return tuple([old if new is None else new for new, old in pairs])
