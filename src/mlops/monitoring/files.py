"""Files for DuckDB, in a folder or below a URL."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mlops.base.errors import UserError, one_line

if TYPE_CHECKING:
    import duckdb


def listed(
    database: duckdb.DuckDBPyConnection, key: str, place: str, root: Path, patterns: Sequence[str]
) -> list[str]:
    """The files in a folder or below an fsspec URL that match; UserError names the key."""
    import fsspec

    remote = "://" in place
    try:
        system, path = fsspec.url_to_fs(place if remote else str(root / place))
        if not system.exists(path):
            raise UserError(f"params.yaml: {key}: found {place!r}, no such folder")
        paths = sorted({str(f) for p in patterns for f in system.glob(f"{path}/**/{p}")})
    except (OSError, ValueError, ImportError) as error:
        raise UserError(f"params.yaml: {key}: {place}: {one_line(error)}") from None
    if not remote:
        return paths
    if not database.filesystem_is_registered(place.split("://")[0]):
        database.register_filesystem(system)
    return [str(system.unstrip_protocol(file)) for file in paths]


def literal(value: str) -> str:
    """A string as an SQL literal."""
    return "'" + value.replace("'", "''") + "'"
