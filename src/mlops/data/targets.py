"""Targets of the source's newer rows, by key: read again when the source or the code changes."""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from mlops.base.files import alone, digest_of, sha256, whole_file
from mlops.data import as_of, coming, fingerprint
from mlops.data.featurize import require_unique
from mlops.data.params import Params
from mlops.data.streaming import Parquet, database, parquet, quoted

FILE = "targets.parquet"
STATE, KNOWN = b"mlops.state", b"mlops.known"


def refresh(params: Params, root: Path, place: Path, after: dt.date) -> Path:
    """The file of the rows after a day: their key, day and target, missing where it is not known.

    It lies in a folder of its own; its columns have the project's names. Raises NothingComing and
    UserError as `coming` does.
    """
    file = root / place / FILE
    file.parent.mkdir(parents=True, exist_ok=True)
    with alone(file.parent):
        state = _state(params, root, after)
        if not file.exists() or _metadata(file)[STATE] != state:
            with coming.refreshed(params, root) as source:
                _write(source, file, after, state)
    return file


def of_next_day(file: Path) -> str:
    """The rows, in SQL, of the first day after the last one with outcomes."""
    import pyarrow.parquet as pq

    _, day, _ = map(quoted, pq.read_schema(file).names)
    known, rows = _metadata(file)[KNOWN].decode(), parquet(file)
    following = f"SELECT min({day}::DATE) FROM {rows} WHERE {day}::DATE > '{known}'"
    return f"{rows} WHERE {day}::DATE = ({following})"


def _metadata(file: Path) -> Any:
    import pyarrow.parquet as pq

    return pq.read_schema(file).metadata


def _state(params: Params, root: Path, after: dt.date) -> bytes:
    """What the file depends on: the source's state, the settings, the project's code, the day."""
    folder = root / "src" / params.project
    files = (path for path in folder.rglob("*") if path.is_file())
    code = {
        path.relative_to(folder).as_posix(): sha256(path)
        for path in files
        if "__pycache__" not in path.parts
    }
    source = fingerprint.of_source(coming.to_the_last_day(params))
    settings = params.model_dump(mode="json", include={"data", "engine"})
    return json.dumps([source, settings, digest_of(code), str(after)], sort_keys=True).encode()


def _write(source: coming.Coming, file: Path, after: dt.date, state: bytes) -> None:
    with source.opened() as (session, spec, raw):
        spec = replace(spec, features={}, slices=(), group=None)
        first = after + as_of.ONE_DAY
        schema, parts = as_of.stream(session, spec, raw, first, max(first, source.last))
        metadata = {STATE: state, KNOWN: str(source.known).encode()}
        with whole_file(file) as partial:
            with Parquet(partial, schema.with_metadata(metadata)) as rows:
                for part in parts:
                    rows.write(part)
            with database(source.folder) as connection:
                require_unique(connection, spec.key, [partial])
