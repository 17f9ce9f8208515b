"""What the features of a flight are made of, and what they must not know."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pandas.testing import assert_frame_equal

# The sample is made by ingesting real days.
pytestmark = pytest.mark.slow
OUTCOMES = ["dep_time", "dep_delay", "arr_time", "arr_delay", "air_time"]


@pytest.fixture(scope="module")
def flights(sample):
    return sample["flights"]


@pytest.fixture(scope="module")
def table(featurize, flights):
    return featurize(flights)


def rewritten_from(flights, day, seed):
    """Other outcomes on and after `day`: other delays, and other flights cancelled."""
    random = np.random.default_rng(seed)
    rows = (flights["date"] >= day).to_numpy()
    changed = flights.copy()
    for outcome in OUTCOMES:
        values = pd.array(random.integers(1, 180, rows.sum()), dtype="Int64")
        values[random.random(rows.sum()) < 0.2] = pd.NA
        changed.loc[rows, outcome] = values
    return changed


@settings(max_examples=5, derandomize=True)
@given(day=st.integers(0, 31), seed=st.integers(0, 2**32 - 1))
def test_changing_the_future_moves_no_feature_of_the_past(
    day, seed, flights, table, featurize, project
):
    first_changed = flights["date"].min() + pd.Timedelta(days=day)
    after = featurize(rewritten_from(flights, first_changed, seed))
    known = table["date"] <= first_changed
    columns = list(dict.fromkeys([project.KEY, *project.SLICES, *project.FEATURES]))
    assert_frame_equal(after.loc[known, columns], table.loc[known, columns], check_exact=True)


def test_changing_yesterday_moves_todays_history(flights, table, featurize):
    last = flights["date"].max()
    after = featurize(rewritten_from(flights, last - pd.Timedelta(days=1), seed=1))
    today = table["date"] == last
    assert (after.loc[today, "airport_delay_1d"] != table.loc[today, "airport_delay_1d"]).all()


def test_the_order_of_rows_does_not_matter(flights, table, featurize):
    assert_frame_equal(featurize(flights.sample(frac=1, random_state=0)), table, check_exact=True)


def test_every_flight_has_one_row_and_one_key(clean, flights, table, project):
    assert table[project.KEY].is_unique
    assert len(table) == len(flights)
    assert not clean["flights"].duplicated(["date", "carrier", "flight", "origin"]).any()


def test_target_is_late_by_more_than_fifteen_minutes_and_missing_when_never_arrived(
    flights, table, project
):
    day = flights["date"].dt.strftime("%Y-%m-%d")
    number = flights["flight"].astype(str)
    keys = day + "-" + flights["carrier"] + "-" + number + "-" + flights["origin"]
    delay = flights["arr_delay"].astype("float64").set_axis(keys)
    expected = (delay > 15).where(delay.notna()).reindex(table[project.KEY]).astype("float64")
    assert np.array_equal(expected, table[project.TARGET].astype("float64"), equal_nan=True)


def test_history_is_what_a_plain_loop_over_days_counts(flights, table):
    day = flights["date"].max()
    before = flights["date"].between(day - pd.Timedelta(days=7), day - pd.Timedelta(days=1))
    arrived = flights[before & flights["origin"].eq("JFK") & flights["arr_delay"].notna()]
    expected = ((arrived["arr_delay"] > 15).sum() + 2) / (len(arrived) + 8)
    rows = table[(table["date"] == day) & (table["origin"] == "JFK")]
    assert (rows["airport_late_7d"] == expected).all()


@pytest.mark.nightly
@pytest.mark.spark
@pytest.mark.timeout(1800)
def test_spark_and_duckdb_give_the_same_bytes(example, tmp_path):
    workspace = example.copy(tmp_path / "spark").change({"engine": "spark"})
    done = workspace.command("featurize")
    assert done.code == 0, done.err
    assert workspace.digest("data/features") == example.digest("data/features")
