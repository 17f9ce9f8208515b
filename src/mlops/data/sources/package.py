"""Raw tables from the CSV files inside an installed Python package."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from mlops.base.errors import UserError, nearest
from mlops.data.sources.files import ENDINGS, read_file, state

if TYPE_CHECKING:
    import pandas as pd


def read(location: str, names: Iterable[str]) -> dict[str, pd.DataFrame]:
    """Read `<name>.csv` or `<name>.csv.zip` for each name, without importing the package."""
    return {name: read_file(str(path)) for name, path in _find(location, names).items()}


def fingerprint(location: str, names: Iterable[str]) -> dict[str, str]:
    """The hash of each file that `read` would read. Raises UserError as `read` does."""
    return {path.name: state(str(path)) for path in _find(location, names).values()}


def _find(location: str, names: Iterable[str]) -> dict[str, Path]:
    try:
        listed = importlib.metadata.distribution(location).files or []
    except importlib.metadata.PackageNotFoundError:
        installed = [str(package.name) for package in importlib.metadata.distributions()]
        raise UserError(
            f"params.yaml: data.location: found {location!r}, expected an installed package"
            f"{nearest(location, installed)}"
        ) from None
    paths = [Path(str(file.locate())) for file in listed if str(file).endswith(ENDINGS)]
    files = {path.name.split(".")[0]: path for path in paths}
    missing = [name for name in names if name not in files]
    if missing:
        known = ", ".join(sorted(files)) or "none"
        raise UserError(f"package {location}: no table {missing[0]!r}; it has {known}")
    return {name: files[name] for name in names}
