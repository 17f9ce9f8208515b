"""Raw tables from CSV or Parquet files in a folder, or below any fsspec URL."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import fsspec
import pandas as pd

from mlops.base.errors import UserError, nearest

ENDINGS = (".parquet", ".csv", ".csv.gz", ".csv.zip")


def read(location: str, names: Iterable[str]) -> dict[str, pd.DataFrame]:
    """Read for each name one file (`flights.csv`) or a folder of Parquet files (`flights/`).

    Raises UserError when the place can't be read or a table is not there.
    """
    try:
        system, path = fsspec.url_to_fs(location)
        entries = {str(entry).rsplit("/", 1)[-1]: entry for entry in system.ls(path, detail=False)}
    except FileNotFoundError:
        raise UserError(f"params.yaml: data.location: found {location!r}, no such folder") from None
    except (OSError, ValueError, ImportError) as error:
        raise UserError(f"params.yaml: data.location: {location}: {_one_line(error)}") from None
    return {name: _table(system, entries, location, name) for name in names}


def read_file(url: str, system: Any = None) -> pd.DataFrame:
    """One CSV or Parquet file; `NA` and empty fields of a CSV are missing values.

    Raises UserError when the file is not what its ending says.
    """
    system = system or fsspec.filesystem("file")
    compression = {".zip": "zip", ".gz": "gzip"}.get(url[url.rfind(".") :])
    try:
        with system.open(url, "rb") as file:
            if url.endswith(".parquet"):
                return pd.read_parquet(file)
            return pd.read_csv(
                file,
                compression=compression,  # type: ignore[arg-type]
                na_values=["NA", ""],
                keep_default_na=False,
                low_memory=False,
            )
    except (OSError, ValueError) as error:
        raise UserError(f"{url}: can't be read: {_one_line(error)}") from None


def _table(system: Any, entries: dict[str, str], location: str, name: str) -> pd.DataFrame:
    for ending in ENDINGS:
        if name + ending in entries:
            return read_file(entries[name + ending], system)
    if name in entries:
        parts = sorted(system.glob(f"{entries[name]}/**/*.parquet"))
        if parts:
            return pd.concat([read_file(part, system) for part in parts], ignore_index=True)
    stems = {entry.split(".")[0] for entry in entries}
    raise UserError(
        f"{location}: no table {name!r}{nearest(name, stems)}; "
        f"expected {name}{{{','.join(ENDINGS)}}} or a folder {name}/ of Parquet files"
    )


def _one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
