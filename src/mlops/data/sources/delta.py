"""Raw tables from Delta Lake: local, in Azure or Unity Catalog, read by delta-rs without Spark."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from mlops.base.errors import UserError, nearest, one_line
from mlops.data.sources import Query, Rows, Unreachable
from mlops.data.streaming import quoted

if TYPE_CHECKING:
    import pyarrow as pa

# A closed port or failed login ends within seconds, as does a store that answers nothing.
LIMITS = {"connect_timeout": "5s", "max_retries": "2", "retry_timeout": "15s"}
# Names in Azure's connection string, and delta-rs's own.
OF_CONNECTION_STRING = (
    ("AccountName", "account_name"),
    ("AccountKey", "account_key"),
    ("SharedAccessSignature", "sas_token"),
    ("BlobEndpoint", "endpoint"),
)


def read(location: str, query: Query) -> Rows:
    """Stream the rows of the table `location/name`, at `query.version` or the newest.

    `location` is a folder, a URL such as `abfss://lake@account.dfs.core.windows.net/sales`, or
    `uc://catalog.schema` in Unity Catalog. A commit during the read changes nothing of it. Files
    are left out by partitions and statistics; deleted rows stay deleted.
    """
    table = opened(location, query)
    types = _types(table)
    names = [name for name in types if query.columns is None or name in query.columns]
    return Rows(tuple(types), _batches(table, location, query, names, types))


def fingerprint(location: str, queries: Sequence[Query]) -> dict[str, str]:
    """The version of each table, and the id of the table: one that is made anew has another."""
    tables = {query.name: opened(location, query) for query in queries}
    return {
        name: f"version {table.version()} of {table.metadata().id}"
        for name, table in tables.items()
    }


def opened(location: str, query: Query) -> Any:
    """The `deltalake.DeltaTable` that a query asks for."""
    from deltalake import DeltaTable
    from deltalake.exceptions import DeltaError, TableNotFoundError

    place = address(location, query.name)
    try:
        return DeltaTable(place, version=query.version, storage_options=options())
    except OSError as error:
        raise Unreachable(f"{place}: {explain(error)}") from None
    except DeltaError as error:
        if place.startswith("uc://"):
            raise Unreachable(f"{place}: {explain(error)}") from None
        if query.version is not None:
            _refuse_version(location, query.name, query.version)
        if isinstance(error, TableNotFoundError):
            _refuse_name(location, query.name)
        raise UserError(f"{place}: {explain(error)}") from None


def address(location: str, name: str) -> str:
    """Where a table of this name is."""
    return f"{location.rstrip('/')}{'.' if location.startswith('uc://') else '/'}{name}"


def options() -> dict[str, str]:
    """What delta-rs does not take from the environment itself: Azure's connection string."""
    text = os.environ.get("AZURE_STORAGE_CONNECTION_STRING", "")
    parts = dict(part.partition("=")[::2] for part in text.split(";") if part)
    found = {key: parts[name] for name, key in OF_CONNECTION_STRING if name in parts}
    if account := os.environ.get("AZURE_STORAGE_ACCOUNT"):
        found.setdefault("account_name", account)
    if found.get("endpoint", "").startswith("http:"):
        found["allow_http"] = "true"
    return LIMITS | found


def _types(table: Any) -> dict[str, pa.DataType]:
    import pyarrow as pa

    return {field.name: field.type for field in pa.schema(table.schema().to_arrow())}


def _batches(
    table: Any, location: str, query: Query, names: list[str], types: dict[str, pa.DataType]
) -> Iterator[pa.RecordBatch]:
    import pyarrow as pa
    from deltalake.exceptions import DeltaError

    # The engine's own types for text have no place in Parquet's metadata or in older readers.
    schema = pa.schema([(name, types[name]) for name in names])
    try:
        stream = table.scan(columns=names, predicate=_predicate(query, types))
        for batch in pa.RecordBatchReader.from_stream(stream):
            yield batch.cast(schema)
    except (OSError, DeltaError, pa.ArrowException) as error:
        if "not found" in str(error).lower():
            _refuse_version(location, query.name, table.version())
        away = isinstance(error, OSError) or "Object Store error" in str(error)
        kind = Unreachable if away else UserError
        raise kind(f"{address(location, query.name)}: {explain(error)}") from None


def _predicate(query: Query, types: dict[str, pa.DataType]) -> str | None:
    import pyarrow as pa

    kind = types.get(query.day or "")
    if kind is None or not (pa.types.is_date(kind) or pa.types.is_timestamp(kind)):
        return None
    zoned = pa.types.is_timestamp(kind) and kind.tz is not None
    literal = "TIMESTAMP" if pa.types.is_timestamp(kind) else "DATE"
    column = quoted(str(query.day))
    terms = [f"{column} {op} {literal} '{day}'" for op, day in query.bounds(zoned=zoned)]
    return f"({' AND '.join(terms)}) OR {column} IS NULL" if terms else None


def _refuse_version(location: str, name: str, version: int) -> None:
    """Raise UserError for a version that is not there, with the oldest one that is whole."""
    newest = opened(location, Query(name))
    place, last = f"{address(location, name)}: version {version}", newest.version()
    if not 0 <= version <= last:
        raise UserError(f"{place}: the newest is {last}")
    later = range(version + 1, last + 1)
    oldest = next((each for each in later if _is_whole(newest.table_uri, each)), None)
    hint = "" if oldest is None else f"; the oldest that can be read is {oldest}"
    raise UserError(f"{place}: files of it are gone, as after VACUUM{hint}")


def _is_whole(place: str, version: int) -> bool:
    import pyarrow as pa
    import pyarrow.fs
    from deltalake import DeltaTable
    from deltalake.exceptions import DeltaError
    from deltalake.fs import DeltaStorageHandler

    with suppress(DeltaError):
        table = DeltaTable(place, version=version, storage_options=options())
        paths = map(unquote, pa.table(table.get_add_actions()).column("path").to_pylist())
        system = pyarrow.fs.PyFileSystem(DeltaStorageHandler(place, options()))
        return all(file.is_file for file in system.get_file_info(list(paths)))
    return False


def _refuse_name(location: str, name: str) -> None:
    """Raise for a table that is not there, with the nearest name in its folder."""
    import pyarrow.fs
    from deltalake.fs import DeltaStorageHandler

    try:
        system = pyarrow.fs.PyFileSystem(DeltaStorageHandler(location, options()))
        found = system.get_file_info(pyarrow.fs.FileSelector("", recursive=False))
    except Exception:
        found = []
    if not found:
        raise Unreachable(f"params.yaml: data.location: found {location!r}, nothing is there")
    hint = nearest(name, [file.base_name for file in found])
    raise UserError(f"{location}: no Delta table {name!r}{hint}")


def explain(error: Exception) -> str:
    """The error of delta-rs in one line."""
    return one_line(re.sub(r"\x1b\[\d*m|↳|<\?xml[^>]*>", "", f"{type(error).__name__}: {error}"))
