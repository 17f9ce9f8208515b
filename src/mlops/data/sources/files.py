"""Raw tables from CSV or Parquet files in a folder, or below any fsspec URL."""

from __future__ import annotations

import gzip
import hashlib
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import fsspec

from mlops.base.errors import UserError, nearest, one_line
from mlops.data.sources import Unreachable

if TYPE_CHECKING:
    import pandas as pd

PARQUET, CSV = (".parquet", ".parquet.gzip"), (".csv", ".csv.gz", ".csv.zip")
ENDINGS = (*PARQUET, *CSV)
GZIP = b"\x1f\x8b"
# What stores call the version of a file's content.
VERSIONS = (
    *("ETag", "etag", "md5Hash", "generation", "Content-MD5", "Digest"),
    *("Last-Modified", "LastModified", "last_modified"),
)


@dataclass(frozen=True)
class File:
    """A file of a table: its path, its name below the location.

    `keys` are the columns that the names of its folders give, such as `day=2021-04-30`.
    """

    path: str
    name: str
    keys: dict[str, str | None] = field(default_factory=dict)


def read(location: str, names: Iterable[str]) -> dict[str, pd.DataFrame]:
    """Read for each name one file (`flights.csv`) or a folder of such files (`flights/`).

    Columns of CSV files are text. Raises UserError when the place can't be read, or a table is
    not there or not as its name says.
    """
    import pandas as pd

    system, tables = _find(location, names)
    read = {name: [_read_part(file, system) for file in files] for name, files in tables.items()}
    for name, parts in read.items():
        _require_same_columns(tables[name], parts)
    return {name: pd.concat(parts, ignore_index=True) for name, parts in read.items()}


def _require_same_columns(files: list[File], parts: list[pd.DataFrame]) -> None:
    """Raise UserError for a file without a column of the others: its rows would lack values."""
    names = [set(map(str, part)) for part in parts]
    for file, own in zip(files, names, strict=True):
        if lost := sorted(set.union(*names) - own):
            raise UserError(
                f"{file.path}: found no column {lost[0]!r}, which other files of the table have"
            )


def fingerprint(location: str, names: Iterable[str]) -> dict[str, str]:
    """The state of each file that `read` would read, by its name below the location."""
    system, tables = _find(location, names)
    return {file.name: state(file.path, system) for files in tables.values() for file in files}


def state(path: str, system: Any = None) -> str:
    """The version of one file's content that its store knows; without one, the content's hash."""
    system = system or fsspec.filesystem("file")
    try:
        about = system.info(path)
        version = next((about[key] for key in VERSIONS if about.get(key)), None)
        if version:
            return f"{about['size']} bytes, version {version}"
        with system.open(path, "rb") as file:
            return f"sha256 {hashlib.file_digest(file, 'sha256').hexdigest()}"
    except Exception as error:
        raise UserError(f"{path}: can't be read: {_explain(error)}") from None


def read_file(path: str, system: Any = None) -> pd.DataFrame:
    """One CSV or Parquet file; `NA` and empty fields of a CSV are missing, all else is text."""
    system = system or fsspec.filesystem("file")
    try:
        with system.open(path, "rb") as file:
            if path.lower().endswith(PARQUET):
                return _read_parquet(file)
            return _read_csv(_unpacked(file, path.lower()))
    # Each store, and each way of packing, has errors of its own.
    except Exception as error:
        raise UserError(f"{path}: can't be read: {_explain(error)}") from None


def _find(location: str, names: Iterable[str]) -> tuple[Any, dict[str, list[File]]]:
    """The file system of a location, and the files of each table."""
    try:
        system, path = fsspec.url_to_fs(location)
        paths = [str(entry).rstrip("/") for entry in system.ls(path, detail=False)]
        entries = {entry.rsplit("/", 1)[-1]: entry for entry in paths}
        return system, {name: _files(system, entries, location, name) for name in names}
    except FileNotFoundError:
        raise Unreachable(
            f"params.yaml: data.location: found {location!r}, no such folder"
        ) from None
    except OSError as error:
        raise Unreachable(f"params.yaml: data.location: {location}: {_explain(error)}") from None
    except (ValueError, ImportError) as error:
        raise UserError(f"params.yaml: data.location: {location}: {_explain(error)}") from None


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


def _read_part(file: File, system: Any) -> pd.DataFrame:
    rows = read_file(file.path, system)
    return rows.assign(**{key: value for key, value in file.keys.items() if key not in rows})


def _unpacked(file: Any, name: str) -> bytes:
    """The content of a file that may be packed."""
    if name.endswith(".gz"):
        return gzip.open(file).read()
    if not name.endswith(".zip"):
        return bytes(file.read())
    with zipfile.ZipFile(file) as archive:
        names = [name for name in archive.namelist() if not name.startswith("__MACOSX/")]
        if len(names) != 1:
            raise ValueError(f"found {len(names)} files in it, expected one")
        return archive.read(names[0])


def _read_csv(content: bytes) -> pd.DataFrame:
    """All fields as text; every row must have as many as the first one, which holds the names.

    A semicolon, tab or bar separates where the first row has no comma; UTF-16 needs its mark.
    """
    import pyarrow as pa
    from pyarrow import csv

    if content.startswith(GZIP):
        raise ValueError("found gzip; give it a name that ends in .csv.gz")
    encoding = "utf-16" if content.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8"
    nul = content.find(b"\0") if encoding == "utf-8" else content.decode(encoding).find("\0")
    if nul >= 0:
        raise ValueError(f"found a NUL at {nul:,}, expected text in UTF-8, or UTF-16 with its mark")
    head = (content[: 2**16].decode(encoding, "replace").splitlines() or [""])[0]
    delimiter = "," if "," in head else max(",;\t|", key=head.count)
    try:
        table = csv.read_csv(
            pa.BufferReader(content),
            # In one thread, its errors name the row.
            read_options=csv.ReadOptions(encoding=encoding, use_threads=False),
            parse_options=csv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
            convert_options=csv.ConvertOptions(
                default_column_type=pa.string(), null_values=["NA", ""], strings_can_be_null=True
            ),
        )
        names = table.column_names
    except ValueError:
        content.decode(encoding)
        raise
    last = (table.column(-1)[-1].as_py() if len(table) else "") or ""
    if content.count(b'"') % 2 and "\n" in last:
        raise ValueError(f"a quote is not closed before {last.splitlines()[0]!r}")
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ValueError(f"column {twice!r} is there twice in the first line")
    rows: pd.DataFrame = table.to_pandas()
    return rows


def _read_parquet(file: Any) -> pd.DataFrame:
    import pandas as pd
    import pyarrow as pa
    import pyarrow.parquet as pq

    # As floats, which pandas would make of them where values are missing, large ones collapse.
    sizes = (8, 16, 32, 64)
    kinds = [(f"int{n}", f"Int{n}") for n in sizes] + [(f"uint{n}", f"UInt{n}") for n in sizes]
    whole = {pa.type_for_alias(kind): pd.api.types.pandas_dtype(own) for kind, own in kinds}
    rows: pd.DataFrame = pq.read_table(file).to_pandas(types_mapper=whole.get)
    return rows.reset_index(drop=rows.index.names == [None])


def _explain(error: Exception) -> str:
    if isinstance(error, UnicodeDecodeError):
        return f"not {error.encoding} at byte {error.start}; convert it, as by iconv -t UTF-8"
    return one_line(f"{type(error).__name__}: {error}")
