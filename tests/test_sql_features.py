"""Features in SQL are ordinary features: one dialect on both engines, blind to the future."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pandas.testing import assert_frame_equal

FIRST, DAYS = pd.Timestamp("2024-01-01"), 121


@pytest.fixture(scope="module")
def shops(repository, tmp_path_factory):
    workspace = repository("shops", tmp_path_factory.mktemp("shops") / "shops")
    workspace.run("ingest", "featurize")
    return workspace


def features(workspace):
    parts = (workspace.root / "data/features").glob("*.parquet")
    rows = pd.concat(map(pd.read_parquet, parts), ignore_index=True)
    return rows.sort_values("shop_day", ignore_index=True)


def test_a_query_gives_what_a_plain_loop_over_days_counts(shops):
    sales = pd.read_csv(shops.root / "csv/sales.csv", parse_dates=["day"])
    day = FIRST + pd.Timedelta(days=60)
    before = sales["day"].between(day - pd.Timedelta(days=7), day - pd.Timedelta(days=1))
    expected = sales[before & sales["shop"].eq("shop-03")]["sold"].mean()
    row = features(shops).set_index("shop_day").loc["shop-03-2024-03-01"]
    assert row["sold_7d"] == np.float32(expected)


@settings(max_examples=3, derandomize=True)
@given(day=st.integers(1, DAYS), seed=st.integers(0, 2**32 - 1))
def test_changing_the_future_moves_no_feature_of_the_past(
    shops, repository, tmp_path_factory, day, seed
):
    first_changed = FIRST + pd.Timedelta(days=day)
    later = repository("shops", tmp_path_factory.mktemp("later") / "shops")
    later.edit_table("sales", lambda sales: rewritten_from(sales, first_changed, seed))
    later.run("ingest", "featurize")
    before, after = features(shops), features(later)
    # A row without an outcome is in neither part, and other rows are those after the change.
    known = before["shop_day"].isin(after["shop_day"]) & (before["day"] <= first_changed)
    kept = after["shop_day"].isin(before.loc[known, "shop_day"])
    assert known.sum() >= 0.6 * 12 * day
    columns = [name for name in before if name != "sold"]
    assert_frame_equal(
        after.loc[kept, columns].reset_index(drop=True),
        before.loc[known, columns].reset_index(drop=True),
        check_exact=True,
    )


def rewritten_from(sales, day, seed):
    """Other outcomes on and after `day`, with other shops closed."""
    random, rows = np.random.default_rng(seed), (pd.to_datetime(sales["day"]) >= day).to_numpy()
    values = pd.array(random.integers(0, 90, rows.sum()), dtype="Int64")
    values[random.random(rows.sum()) < 0.2] = pd.NA
    changed = sales.astype({"sold": "Int64"})
    changed.loc[rows, "sold"] = values
    return changed
