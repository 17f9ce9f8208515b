"""Features in a file of SQLite beside the service, which reads it by key.

It is not mapped to memory: a file that is cut short would then end the service. A publication
replaces the file; the service opens the new one when it is there.
"""

from __future__ import annotations

import logging
import os
import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import closing
from pathlib import Path

import msgspec

from mlops.base.errors import UserError
from mlops.base.files import alone, whole_file
from mlops.serving.stores import About, Columns, Packed, Stored, Unavailable, unpack

# Bytes 68 to 72 of a file of SQLite say whose it is.
OURS = int.from_bytes(b"mlop")
SCHEMA = f"""pragma application_id = {OURS};
create table about (keys integer, columns text, made real);
create table features (key text primary key, packed blob) without rowid;"""

# What reading a file raises that is not whole.
DAMAGED = sqlite3.Error, msgspec.MsgspecError, ValueError, TypeError

log = logging.getLogger("mlops.serving")


def publish(location: str, columns: Columns, rows: Iterable[Packed], made: float) -> None:
    """Write the file, and give it its name when it is whole.

    Raises UserError where the name is another file's: it would be lost.
    """
    path = Path(location)
    if path.exists() and not _is_own(path):
        raise UserError(f"features: {location}: found something else; expected published features")
    path.parent.mkdir(parents=True, exist_ok=True)
    with alone(path.parent), whole_file(path) as partial:
        with closing(sqlite3.connect(partial)) as database, database:
            # A file that is not whole is never read: nothing needs to be undone.
            database.executescript(f"pragma journal_mode = off; pragma synchronous = off; {SCHEMA}")
            try:
                database.executemany("insert into features values (?, ?)", rows)
            except sqlite3.IntegrityError as error:
                raise UserError(f"features: found a key twice: {error}") from None
            count = database.execute("select count(*) from features").fetchone()[0]
            named = msgspec.json.encode(columns).decode()
            database.execute("insert into about values (?, ?, ?)", (count, named, made))
        with partial.open("rb") as file:
            os.fsync(file.fileno())


def about(location: str) -> About | None:
    """What was published; None where there is no file."""
    if not Path(location).exists():
        return None
    try:
        with closing(_opened(location)) as database:
            return _about(database, location)
    except Unavailable as error:
        raise UserError(f"features: {error}") from None


def connect(location: str) -> Embedded:
    """A reader of the file."""
    return Embedded(location)


class Embedded:
    """Reads the file, and opens it again when another one has taken its name."""

    def __init__(self, location: str) -> None:
        self._location = location
        self._stamp: tuple[int, int] | None = None
        self._database: sqlite3.Connection | None = None
        self._columns = Columns((), ())

    async def get(self, keys: Sequence[str]) -> tuple[Columns, list[Stored | None]]:
        """What was published for each of these keys; raises Unavailable."""
        database = self._current()
        query = "select packed from features where key = ?"
        try:
            rows = [database.execute(query, (key,)).fetchone() for key in keys]
            return self._columns, [unpack(row[0]) if row else None for row in rows]
        except DAMAGED as error:
            raise Unavailable(f"{self._location}: can't be read: {error}") from None

    async def close(self) -> None:
        """Close the file."""
        if self._database:
            self._database.close()

    def _current(self) -> sqlite3.Connection:
        """The file that has the name now; the earlier one where that one can't be read."""
        try:
            status = os.stat(self._location)
            stamp = status.st_ino, status.st_mtime_ns
        except OSError as error:
            stamp = self._stamp or (0, 0)
            if not self._database:
                raise Unavailable(f"{self._location}: {error.strerror}") from None
        if stamp != self._stamp:
            self._stamp = stamp
            try:
                database = _opened(self._location)
                self._columns = _about(database, self._location).columns
            except Unavailable as error:
                if not self._database:
                    self._stamp = None
                    raise
                log.error("features refused", extra={"reason": str(error)})
            else:
                if self._database:
                    self._database.close()
                self._database = database
        assert self._database
        return self._database


def _is_own(path: Path) -> bool:
    """Whether features were published there."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(72)[68:] == OURS.to_bytes(4)


def _opened(location: str) -> sqlite3.Connection:
    try:
        # Immutable: a publication replaces the file, and never writes to it.
        path = Path(location).absolute().as_uri()
        return sqlite3.connect(f"{path}?mode=ro&immutable=1", uri=True)
    except sqlite3.Error as error:
        raise Unavailable(f"{location}: can't be read: {error}") from None


def _about(database: sqlite3.Connection, location: str) -> About:
    try:
        (row,) = database.execute("select keys, columns, made from about")
        # Reads every page: a damaged one is found before the earlier file is closed.
        ((count,),) = database.execute("select count(*) from features")
        if count != row[0]:
            raise ValueError(f"found {count} keys, expected {row[0]}")
        return About(count, msgspec.json.decode(row[1], type=Columns), row[2])
    except DAMAGED as error:
        raise Unavailable(f"{location}: not a whole file of features: {error}") from None
