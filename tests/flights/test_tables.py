from collections.abc import Callable

import numpy as np
import pandas as pd
import pandera.pandas as pa
import pytest

from flights.tables import TABLES

Corruption = Callable[[pd.DataFrame], pd.DataFrame]


def twice_first_row(table: pd.DataFrame) -> pd.DataFrame:
    return pd.concat([table, table.head(1)], ignore_index=True)


@pytest.mark.parametrize("name", TABLES)
def test_real_table_passes_and_passes_again(name: str, clean: dict[str, pd.DataFrame]) -> None:
    assert TABLES[name].validate(clean[name]).equals(clean[name])


@pytest.mark.parametrize("name", TABLES)
def test_table_reads_back_from_parquet_as_it_was(
    name: str, clean: dict[str, pd.DataFrame], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp(name) / "all.parquet"
    clean[name].to_parquet(path, index=False, coerce_timestamps="us")
    assert TABLES[name].validate(pd.read_parquet(path)).equals(clean[name])


def test_whole_numbers_hold_no_nan(clean: dict[str, pd.DataFrame]) -> None:
    assert clean["flights"]["arr_delay"].dtype == pd.Int64Dtype()
    assert clean["flights"]["arr_delay"].isna().any()


def test_impossible_wind_becomes_missing(
    raw: dict[str, pd.DataFrame], clean: dict[str, pd.DataFrame]
) -> None:
    fault = raw["weather"]["wind_speed"] > 1000
    assert fault.sum() == 1
    assert clean["weather"].loc[fault, "wind_speed"].isna().all()


@pytest.mark.parametrize(
    ("name", "corrupt"),
    [
        pytest.param("flights", lambda t: t.drop(columns="dest"), id="column missing"),
        pytest.param("flights", lambda t: t.drop(columns="year"), id="part of the date missing"),
        pytest.param("flights", lambda t: t.assign(gate="B2"), id="column unknown"),
        pytest.param("flights", lambda t: t.assign(distance=-1), id="out of range"),
        pytest.param("flights", lambda t: t.assign(origin="LAX"), id="another city"),
        pytest.param("flights", lambda t: t.assign(time_hour="noon"), id="not an instant"),
        pytest.param("flights", lambda t: t.assign(month=2, day=31), id="not a day"),
        pytest.param("flights", lambda t: t.assign(carrier=np.nan), id="missing"),
        pytest.param("flights", twice_first_row, id="flight twice"),
        pytest.param("weather", twice_first_row, id="hour twice"),
        pytest.param("planes", twice_first_row, id="aircraft twice"),
    ],
)
def test_corrupt_table_is_refused(
    name: str, corrupt: Corruption, raw: dict[str, pd.DataFrame]
) -> None:
    with pytest.raises(pa.errors.SchemaErrors):
        TABLES[name].validate(corrupt(raw[name].head(1000)), lazy=True)
