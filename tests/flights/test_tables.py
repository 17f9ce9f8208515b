"""The schemas of the raw tables accept the real ones, and refuse what is wrong."""

import numpy as np
import pandas as pd
import pandera.pandas as pa
import pytest

from flights.tables import TABLES


@pytest.mark.slow
@pytest.mark.parametrize("name", TABLES)
def test_a_real_table_passes_and_passes_again_from_parquet(name, clean, tmp_path):
    path = tmp_path / "all.parquet"
    clean[name].to_parquet(path, index=False, coerce_timestamps="us")
    for table in (clean[name], pd.read_parquet(path)):
        assert TABLES[name].validate(table).equals(clean[name])


def test_whole_numbers_hold_no_nan(clean):
    assert clean["flights"]["arr_delay"].dtype == pd.Int64Dtype()
    assert clean["flights"]["arr_delay"].isna().any()


def test_impossible_wind_becomes_missing(raw, clean):
    fault = raw["weather"]["wind_speed"] > 1000
    assert fault.sum() == 1
    assert clean["weather"].loc[fault, "wind_speed"].isna().all()


@pytest.mark.parametrize(
    "change",
    [
        {"gate": "B2"},
        {"distance": -1},
        {"origin": "LAX"},
        {"time_hour": "noon"},
        {"month": 2, "day": 31},
        {"carrier": np.nan},
    ],
    ids=str,
)
def test_a_flight_that_cannot_be_is_refused(change, raw):
    with pytest.raises(pa.errors.SchemaErrors):
        TABLES["flights"].validate(raw["flights"].head(1000).assign(**change), lazy=True)


@pytest.mark.parametrize("column", ["dest", "year"])
def test_a_missing_column_is_refused(column, raw):
    with pytest.raises(pa.errors.SchemaErrors):
        TABLES["flights"].validate(raw["flights"].head(1000).drop(columns=column), lazy=True)


@pytest.mark.parametrize("name", ["flights", "weather", "planes"])
def test_a_row_that_comes_twice_is_refused(name, raw):
    table = raw[name].head(1000)
    with pytest.raises(pa.errors.SchemaErrors):
        TABLES[name].validate(pd.concat([table, table.head(1)], ignore_index=True), lazy=True)
