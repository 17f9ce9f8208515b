"""What the project's own tables say: outcomes of answered keys, and which keys need features."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mlops.base.errors import UserError, one_line
from mlops.contract.bundle import Card
from mlops.deploy.manifest import Serving
from mlops.monitoring.assessment import Published
from mlops.monitoring.params import Params

if TYPE_CHECKING:
    import duckdb

    from mlops.serving.stores import About, Reader

FOLDER = Path(".run/outcomes")
# Keys that are looked up at once.
KEYS = 1000
UNREAD, UNWATCHED = "no outcomes read, performance not judged", "features not watched"


@dataclass(frozen=True)
class Known:
    """Whether answers are labelled by key, the time of the newest that is, and what is published.

    `unread` is why the project's tables could not be read, `notes` are about published features.
    """

    keyed: bool
    newest: dt.datetime | None
    published: Published | None
    unread: tuple[str, ...]
    notes: tuple[str, ...]


def read(
    database: duckdb.DuckDBPyConnection, params: Params, root: Path, environment: str, card: Card,
    serving: Serving,
) -> Known:  # fmt: skip
    """Join the answers with the outcomes of their keys, as `labels.of_keys` does, and look up the
    keys of the next day.

    The source is read where answers have keys and no other labels, or features are published.
    """
    from mlops.monitoring import labels
    from mlops.serving import stores

    about = rows = newest = published = None
    unread: list[str] = []
    notes: list[str] = []
    place = serving.place(environment, root)
    with noted(notes, UNWATCHED):
        about = stores.store(serving.store, "serving.store").about(place)
    ((keys,),) = database.execute("SELECT count(key) FROM answers").fetchall()
    keyed, watched = bool(keys) and not params.monitoring.labels, bool(about or serving.features)
    if keyed or watched:
        with noted(unread, UNREAD) if keyed else noted(notes, UNWATCHED):
            rows = _rows(params, root, FOLDER / environment, card)
            keyed = keyed and rows is not None
            newest = labels.of_keys(database, rows, card) if keyed and rows else None
    if watched:
        published = Published(0, 0, about.made if about else None, serving.stale_after)
    if watched and rows:
        with noted(notes, UNWATCHED):
            published = _looked_up(database, rows, card, serving, place, about)
    if published and published.found < published.expected:
        counted = f"{published.found:,} of {published.expected:,} keys of the next day"
        notes.append(f"features of {counted} are published: mlops features")
    return Known(keyed, newest, published, tuple(unread), tuple(notes))


def _rows(params: Params, root: Path, folder: Path, card: Card) -> Path | None:
    """The targets, by key, of the rows after those that the bundle was trained on.

    None where the project declares no outcomes, or its rows have no days.
    """
    from mlops.contract import project
    from mlops.data import tables, targets

    until = card.trained_on.get("until")
    if until is None or not card.key or not tables.outcomes(project.tables(params.project)):
        return None
    return targets.refresh(params, root, folder, dt.date.fromisoformat(until))


def _looked_up(
    database: duckdb.DuckDBPyConnection, rows: Path, card: Card, serving: Serving, place: str,
    about: About | None,
) -> Published:  # fmt: skip
    """Look up every key of the next day."""
    from mlops.data import targets
    from mlops.data.streaming import quoted
    from mlops.serving import stores

    keys = database.execute(f"SELECT {quoted(card.key)} FROM {targets.of_next_day(rows)}")

    def parts() -> Iterator[list[str]]:
        while part := keys.fetchmany(KEYS):
            yield [key for (key,) in part]

    if about is None:
        return Published(sum(map(len, parts())), 0, None, serving.stale_after)
    try:
        reader = stores.store(serving.store).connect(place)
        expected, found = asyncio.run(_counted(reader, parts()))
    except stores.Unavailable as error:
        raise UserError(str(error)) from None
    return Published(expected, found, about.made, serving.stale_after)


async def _counted(reader: Reader, parts: Iterator[list[str]]) -> tuple[int, int]:
    """How many keys there are, and how many have features."""
    expected = found = 0
    try:
        for keys in parts:
            _, stored = await reader.get(keys)
            expected, found = expected + len(keys), found + sum(one is not None for one in stored)
    finally:
        await reader.close()
    return expected, found


@contextmanager
def noted(notes: list[str], what: str) -> Iterator[None]:
    """Note what goes wrong: the rest is judged all the same."""
    try:
        yield
    except UserError as error:
        notes.append(f"{what}: {one_line(error)}")
