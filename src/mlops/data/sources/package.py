"""Raw tables from the CSV files inside an installed Python package."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterable, Sequence
from pathlib import Path

from mlops.base.errors import UserError, nearest
from mlops.data.sources import Query, Rows, no_versions
from mlops.data.sources.files import ENDINGS, File, read_files, state


def read(location: str, query: Query) -> Rows:
    """Read `<name>.csv` or `<name>.csv.zip`, without importing the package."""
    path = _find(location, [query.name])[query.name]
    return read_files([File(str(path), path.name)], query)


def fingerprint(location: str, queries: Sequence[Query]) -> dict[str, str]:
    """The hash of each file that `read` would read. Raises UserError as `read` does."""
    no_versions("package", queries)
    names = [query.name for query in queries]
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
