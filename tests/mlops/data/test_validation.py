"""Everything that is wrong with the raw tables is said at once, with examples."""

from types import MappingProxyType

import pandas as pd
import pandera.pandas as pa
import pytest
from pandera.typing import Series

from mlops.base.errors import UserError
from mlops.data.validation import day_column, validated


class Trips(pa.DataFrameModel):
    day: Series[pa.DateTime]
    number: Series[int]
    town: Series[str] = pa.Field(metadata={"references": "towns.name", "matched": 0.5})

    class Config:
        strict = True
        coerce = True
        unique = ("day", "number")
        metadata = MappingProxyType({"day": "day"})


class Towns(pa.DataFrameModel):
    name: Series[str]


SCHEMAS = {"trips": Trips, "towns": Towns}
TOWNS = pd.DataFrame({"name": ["Ely", "Wells"]})


def trips(**columns):
    rows = {"day": ["2020-01-01", "2020-01-02"], "number": [1, 2], "town": ["Ely", "Wells"]}
    return pd.DataFrame({**rows, **columns})


def failures(table):
    with pytest.raises(UserError) as error:
        validated({"trips": table, "towns": TOWNS}, SCHEMAS)
    return str(error.value).splitlines()


def test_tables_come_back_typed_and_whole_numbers_may_have_a_point():
    tables = validated({"trips": trips(number=[1.0, 2.0]), "towns": TOWNS}, SCHEMAS)
    assert tables["trips"]["day"].dtype == "datetime64[ns]"
    assert tables["trips"]["number"].tolist() == [1, 2]
    assert list(tables) == ["trips", "towns"]
    assert (day_column(Trips), day_column(Towns)) == ("day", None)


def test_a_shared_key_is_one_failure_with_the_whole_key_as_example():
    twice = pd.concat([trips(), trips().head(1)], ignore_index=True)
    assert failures(twice) == [
        "trips: 1 check failed; nothing was written",
        "table  column       check       rows  examples",
        "trips  day, number  unique key  2     2020-01-01 00:00:00 1",
    ]


NINE = {"day": pd.date_range("2020", periods=9), "town": "Ely"}


@pytest.mark.parametrize(
    ("rows", "line"),
    [
        (trips(number=[1.0, 2.5]), "trips number is a whole number 1 2.5"),
        (trips(town=["Hythe", "Rye"]), "trips town 50% are in towns.name 2 Hythe, Rye"),
        (pd.DataFrame({**NINE, "number": list("abcdefghi")}), "trips number is int64 9 a, b, c"),
    ],
)
def test_a_failure_has_its_check_its_rows_and_at_most_three_examples(rows, line):
    assert failures(rows)[2].split() == line.split()


def test_references_may_miss_as_many_as_the_schema_allows():
    validated({"trips": trips(town=["Ely", "Rye"]), "towns": TOWNS}, SCHEMAS)
