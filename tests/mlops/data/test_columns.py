"""A value is read as its schema declares the column, or found not to fit; none is changed."""

import datetime as dt
from decimal import Decimal

import pandas as pd
import pandera.pandas as pa
import pytest

from mlops.data import columns

LARGE = 2**53 + 1


def read(values, dtype, **options):
    column = pa.Column(dtype, nullable=True, **options)
    return columns.read(pd.Series(values), columns.kind(column))


@pytest.mark.parametrize(
    ("dtype", "values", "expected"),
    [
        ("int64", ["1", "-2", "+3", " 4", "5.0", "6.", "007"], [1, -2, 3, 4, 5, 6, 7]),
        ("int64", [str(LARGE), f"{LARGE + 1}.0"], [LARGE, LARGE + 1]),
        ("int64", [1.0, 2.0], [1, 2]),
        ("int64", [Decimal(LARGE), LARGE + 1], [LARGE, LARGE + 1]),
        (pd.Int64Dtype(), [str(LARGE), None, "1"], [LARGE, None, 1]),
        ("float64", ["1.5", "1e3", "-2", None], [1.5, 1000.0, -2.0, None]),
        ("float64", [1, 2], [1.0, 2.0]),
        (bool, ["Y", "n", "TRUE", "false", "1", "0"], [True, False, True, False, True, False]),
        (pd.BooleanDtype(), ["yes", None], [True, None]),
        (str, ["02139", "N", None], ["02139", "N", None]),
        ("datetime64[ns]", ["2021-04-01", "2021-04-01T10:00:00Z", None],
         [pd.Timestamp("2021-04-01"), pd.Timestamp("2021-04-01 10:00"), None]),
        ("datetime64[ns]", [dt.date(2021, 4, 1)], [pd.Timestamp("2021-04-01")]),
        ("datetime64[ns]", pd.date_range("2021", periods=1, tz="UTC"), [pd.Timestamp("2021")]),
        (pa.Date, ["2021-04-01"], [dt.date(2021, 4, 1)]),
        (pd.DatetimeTZDtype(tz="UTC"), ["2021-04-01T10:00:00+02:00"],
         [pd.Timestamp("2021-04-01 08:00", tz="UTC")]),
    ],
)  # fmt: skip
def test_what_fits_is_read_exactly(dtype, values, expected):
    found, wrong = read(values, dtype)
    assert not wrong.any()
    assert [None if pd.isna(value) else value for value in found] == expected


@pytest.mark.parametrize(
    ("dtype", "values"),
    [
        ("int64", ["1.5", "1e3", "x", "1_000", "1,000", 2.5, float("inf"), str(2**63)]),
        ("int8", ["128", -129]),
        ("float64", ["1,5", "1_000", "x", "", "inf", float("inf")]),
        ("float32", ["1e39", -1e39]),
        (bool, ["maybe", 2, 0.5, "2"]),
        (str, [2139, 2139.0, b"x", Decimal(1), True, dt.date(2021, 4, 1)]),
        ("float64", [[1], [2]]),
        ("datetime64[ns]", ["01/04/2021", "44197", 44197, 1.5, "2021-02-30", "soon", "9999-12-31"]),
        ("datetime64[ns]", ["2021-04-01T00:00:00+02:00"]),
        ("datetime64[ns]", pd.date_range("2021", periods=2, tz="Europe/Paris")),
    ],
)
def test_what_does_not_fit_is_found_and_left_as_it_is(dtype, values):
    given = pd.Series(values)
    found, wrong = read(values, dtype)
    assert wrong.all()
    pd.testing.assert_series_equal(found, given)


@pytest.mark.parametrize("dtype", ["int64", bool])
def test_a_type_without_missing_values_has_none(dtype):
    assert read(["1", None], dtype)[1].tolist() == [False, True]


def test_a_form_that_is_declared_is_the_only_one():
    form = {"metadata": {"format": "%d/%m/%Y"}}
    found, _ = read(["01/04/2021", "13/04/2021"], "datetime64[ns]", **form)
    assert found.tolist() == [pd.Timestamp("2021-04-01"), pd.Timestamp("2021-04-13")]
    assert read(["2021-04-01", "04/13/2021"], "datetime64[ns]", **form)[1].all()


def test_types_that_pandera_alone_knows_are_left_to_it():
    assert columns.kind(pa.Column(pa.Category)) is None
    assert columns.kind(pa.Column(object)) is None
    assert columns.kind(pa.Column()) is None
