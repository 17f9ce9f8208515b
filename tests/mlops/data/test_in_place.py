"""Tables that stay where they lie are checked on Spark as copies are here."""

import datetime as dt

import pandas as pd
import pandera.pandas as pa
import pytest
from pandera.typing import Series

from mlops.base.errors import UserError
from mlops.data import engine, in_place
from mlops.data.sources import Query
from tests.mlops.data.test_validation import SCHEMAS, TOWNS, trips, validated

pytestmark = [pytest.mark.nightly, pytest.mark.spark]


@pytest.fixture(scope="module")
def session():
    return engine.start("spark")


def checked(session, tables, schemas, until=None):
    queries = {name: Query(name, day="day", until=until) for name in schemas}
    frames = {name: session.createDataFrame(rows) for name, rows in tables.items()}
    found = {
        name: in_place.rows(lambda session, location, query: frames[query.name], session, "", query)
        for name, query in queries.items()
    }
    return in_place.checked(found, queries, schemas)


def stored(**columns):
    """Rows with their days as days, as tables of Spark have them."""
    return trips(**{"day": pd.to_datetime(["2020-01-01", "2020-02-02"]), **columns})


@pytest.mark.parametrize(
    "rows",
    [
        pd.concat([stored(), stored(), stored(number=[8, 9])], ignore_index=True),
        stored(town=["Hythe", "Rye"]),
        stored(town=[None, "Rye"]),
        stored(other=[1, 1]),
        stored().drop(columns="number"),
    ],
    ids=["key", "references", "missing", "unknown", "absent"],
)
def test_the_failures_are_those_of_a_copy(session, rows):
    with pytest.raises(UserError) as here:
        validated({"trips": rows, "towns": TOWNS}, SCHEMAS)
    with pytest.raises(UserError) as there:
        checked(session, {"trips": rows, "towns": TOWNS}, SCHEMAS)
    assert str(there.value) == str(here.value)


def test_what_is_found_is_added_up_from_all_executors_up_to_the_last_day(session):
    until = dt.date(2020, 1, 31)
    found = checked(session, {"trips": stored(), "towns": TOWNS}, SCHEMAS, until)["trips"]
    assert (found.kept, dict(found.months), found.first) == (1, {"2020-01": 1}, dt.date(2020, 1, 1))


class Parsed(pa.DataFrameModel):
    n: Series[int]

    @pa.dataframe_parser
    @classmethod
    def doubled(cls, rows: pd.DataFrame) -> pd.DataFrame:
        return rows.assign(n=rows["n"] * 2)


class Whole(pa.DataFrameModel):
    n: Series[int]

    @pa.check("n")
    @classmethod
    def low(cls, values: Series[int]) -> bool:
        return bool(values.mean() < 9)


class Plain(pa.DataFrameModel):
    n: Series[int]


@pytest.mark.parametrize(
    ("schema", "rows", "line"),
    [
        (Parsed, [1], "tables.py: rows: found a parser, which changes rows"),
        (Whole, [1], "tables.py: rows: found a check that gives one answer for all rows"),
        (Plain, ["1"], r"n +is stored as int64 +0 +string"),
    ],
)
def test_what_the_features_would_not_see_as_declared_is_refused(session, schema, rows, line):
    with pytest.raises(UserError, match=line):
        checked(session, {"rows": pd.DataFrame({"n": rows})}, {"rows": schema})
