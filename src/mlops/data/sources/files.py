"""Raw tables from CSV or Parquet files in a folder, or below any fsspec URL."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import fsspec

from mlops.base.errors import UserError, nearest, one_line
from mlops.data.sources import Query, Rows, Unreachable, formats, no_versions
from mlops.data.sources.formats import Opened

if TYPE_CHECKING:
    import pyarrow as pa

PARQUET, CSV = (".parquet", ".parquet.gzip"), (".csv", ".csv.gz", ".csv.zip")
ENDINGS = (*PARQUET, *CSV)
# What stores call the version of a file's content.
VERSIONS = (
    *("ETag", "etag", "md5Hash", "generation", "Content-MD5", "Digest"),
    *("Last-Modified", "LastModified", "last_modified"),
)
# For Azure's client, whose own choice is more than a minute; in seconds.
PATIENCE = {
    "connection_timeout": 5, "read_timeout": 15, "retry_total": 2,
    "initial_backoff": 1, "increment_base": 1, "random_jitter_range": 1,
}  # fmt: skip


@dataclass(frozen=True)
class File:
    """A file of a table: its path, its name below the location.

    `keys` are the columns that the names of its folders give, such as `day=2021-04-30`.
    """

    path: str
    name: str
    keys: dict[str, str | None] = field(default_factory=dict)


def read(location: str, query: Query) -> Rows:
    """Read one file (`flights.csv`) or a folder of such files (`flights/`), file by file.

    Columns of CSV files are text. Raises UserError when the place can't be read, or the table is
    not there or not as its name says.
    """
    no_versions("files", [query])
    system, tables = _find(location, [query.name])
    return read_files(tables[query.name], query, system)


def read_files(files: list[File], query: Query, system: Any = None) -> Rows:
    """The rows of a table's files, which have the same columns, in their order."""
    system = system or fsspec.filesystem("file")
    # The first one says which columns there are, before any row is read.
    names, first = _open(files[0], query, system)
    asked = [name for name in names if query.columns is None or name in query.columns]

    def batches() -> Iterator[pa.RecordBatch]:
        for number, file in enumerate(files):
            own, rows = _open(file, query, system) if number else (names, first)
            if set(own) != set(names):
                _refuse_columns(files[0], names, file, own)
            for batch in rows:
                # In the order of the first file, without what pandas notes of an index.
                yield batch.select(asked).replace_schema_metadata()

    return Rows(names, batches())


def _refuse_columns(first: File, names: Sequence[str], file: File, own: Sequence[str]) -> None:
    """Refuse a file without a column of the others: its rows would lack values."""
    more = sorted(set(own) - set(names))
    place, lost = (first, more) if more else (file, sorted(set(names) - set(own)))
    raise UserError(
        f"{place.path}: found no column {lost[0]!r}, which other files of the table have"
    )


def fingerprint(location: str, queries: Sequence[Query]) -> dict[str, str]:
    """The state of each file that `read` would read, by its name below the location."""
    no_versions("files", queries)
    system, tables = _find(location, [query.name for query in queries])
    return {file.name: state(file.path, system) for files in tables.values() for file in files}


def state(path: str, system: Any = None) -> str:
    """The version of one file's content that its store knows; without one, the content's hash."""
    system = system or fsspec.filesystem("file")
    with _readable(path):
        if version := _version(about := system.info(path)):
            return f"{about['size']} bytes, version {version}"
        with system.open(path, "rb") as file:
            return f"sha256 {hashlib.file_digest(file, 'sha256').hexdigest()}"


def _version(about: dict[str, Any]) -> Any:
    return next((about[key] for key in VERSIONS if about.get(key)), None)


@contextmanager
def _readable(path: str) -> Iterator[None]:
    """Turn whatever a store, or a way of packing, raises into one line that names the file."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"{path}: can't be read: {_explain(error)}") from None


def _open(file: File, query: Query, system: Any) -> Opened:
    """The columns of a file, and its rows; refused where it changes while it is read."""
    import pyarrow as pa

    def state() -> tuple[Any, ...]:
        about = system.info(file.path)
        return about.get("size"), about.get("mtime"), str(_version(about))

    with _readable(file.path):
        before, content = state(), system.open(file.path, "rb")
        is_parquet = file.path.lower().endswith(PARQUET)
        names, rows = (formats.parquet if is_parquet else formats.csv)(
            content, file.path.lower(), query
        )
    keys = {name: value for name, value in file.keys.items() if name not in names}

    def batches() -> Iterator[pa.RecordBatch]:
        with _readable(file.path), content:
            for batch in rows:
                for name, value in keys.items():
                    column = pa.repeat(pa.scalar(value, pa.string()), batch.num_rows)
                    batch = batch.append_column(name, column)
                yield batch
            if state() != before:
                raise ValueError("it changed while it was read; run again")

    return (*names, *keys), batches()


def _find(location: str, names: Iterable[str]) -> tuple[Any, dict[str, list[File]]]:
    """The file system of a location, and the files of each table."""
    place = f"params.yaml: data.location: {location}"
    try:
        system, path = opened(location)
        paths = [str(entry).rstrip("/") for entry in system.ls(path, detail=False)]
        entries = {entry.rsplit("/", 1)[-1]: entry for entry in paths}
        return system, {name: _files(system, entries, location, name) for name in names}
    except UserError:
        raise
    except FileNotFoundError:
        raise Unreachable(
            f"params.yaml: data.location: found {location!r}, no such folder"
        ) from None
    except (ValueError, ImportError) as error:
        raise UserError(f"{place}: {_explain(error)}") from None
    # Each store has errors of its own.
    except Exception as error:
        raise Unreachable(f"{place}: {_explain(error)}") from None


def opened(location: str) -> tuple[Any, str]:
    """The file system of a location, and the path there."""
    system, path = fsspec.url_to_fs(location)
    # What a login logs is in the error that it raises.
    logging.getLogger("azure.identity").setLevel(logging.CRITICAL)
    client = getattr(system, "service_client", None)
    # fsspec keeps file systems; Azure's takes no such settings, so it gets a client that has them.
    if client and not hasattr(system, "fails_soon"):
        system.service_client = type(client)(client.url, client.credential, **PATIENCE)
        system.fails_soon = True
    return system, path


def _files(system: Any, entries: dict[str, str], location: str, name: str) -> list[File]:
    """The one file, or the files of the one folder, that a table's name stands for."""
    found = [entry for entry in entries if entry == name or _stem(entry) == name]
    if len(found) > 1:
        raise UserError(f"{location}: {name}: found {' and '.join(sorted(found))}, expected one")
    if not found:
        alike = [entry for entry in entries if entry.split(".")[0].lower() == name.lower()]
        hint = f"; found {alike[0]}" if alike else nearest(name, map(_stem, entries))
        raise UserError(
            f"{location}: no table {name!r}{hint}; "
            f"expected {name}{{{','.join(ENDINGS)}}} or a folder {name}/ of such files"
        )
    entry = found[0]
    path = entries[entry]
    if entry != name and not system.isdir(path):
        return [File(path, entry)]
    # Spark gives a folder the name of a file.
    files = [
        file for part in sorted(system.find(path))
        if (file := _part(part, f"{entry}{part.removeprefix(path)}", location))
    ]  # fmt: skip
    if not files:
        raise UserError(f"{location}/{entry}: no file that ends in {', '.join(ENDINGS)}")
    return files


def _part(path: str, name: str, location: str) -> File | None:
    """A file in a table's folder; None for those that programs leave there, as Spark does."""
    parts = name.split("/")[1:]
    kinds = {
        "Delta": "_delta_log" in parts,
        "Hudi": ".hoodie" in parts,
        "Iceberg": name.endswith(".metadata.json"),
    }
    for kind in (kind for kind, found in kinds.items() if found):
        raise UserError(
            f"{location}/{name.split('/')[0]}: found a table of {kind}, whose folder holds removed "
            "rows too; export it as plain Parquet, or read it with a source of your own "
            "(docs/extend.md)"
        )
    if any(part.startswith(("_", ".")) for part in parts):
        return None
    if not name.lower().endswith(ENDINGS):
        raise UserError(f"{location}/{name}: expected a file that ends in {', '.join(ENDINGS)}")
    pairs = [part.partition("=") for part in parts[:-1] if "=" in part]
    keys = {key: unquote(value) for key, _, value in pairs}
    missing = "__HIVE_DEFAULT_PARTITION__"
    return File(path, name, {key: None if v == missing else v for key, v in keys.items()})


def _stem(name: str) -> str:
    ending = next((end for end in sorted(ENDINGS, key=len) if name.lower().endswith(end)), "")
    return name[: len(name) - len(ending)]


def _explain(error: Exception) -> str:
    if isinstance(error, UnicodeDecodeError):
        return f"not {error.encoding} at byte {error.start}; convert it, as by iconv -t UTF-8"
    return one_line(f"{type(error).__name__}: {error}")
