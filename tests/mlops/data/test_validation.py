"""Everything that is wrong with the raw tables is said at once, with examples."""

import re
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType

import pandas as pd
import pandera.pandas as pa
import pyarrow as arrow
import pytest
from pandera.typing import Series

from mlops.base.errors import UserError
from mlops.data.failures import ranges
from mlops.data.sources import Query, Rows
from mlops.data.staging import Staging
from mlops.data.streaming import database
from mlops.data.tables import day_column, require_names


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


INTEGERS = {arrow.int64(): pd.Int64Dtype()}
SCHEMAS = {"trips": Trips, "towns": Towns}
TOWNS = pd.DataFrame({"name": ["Ely", "Wells"]})


def validated(raw, schemas, left_out=None):
    """The tables as they are staged, read in batches of two rows."""

    def read(query):
        table = arrow.Table.from_pandas(raw[query.name], preserve_index=False)
        return Rows(tuple(table.column_names), iter(table.to_batches(2)))

    require_names(schemas)
    with TemporaryDirectory() as folder, database(Path(folder)) as engine:
        staging = Staging(read, "tests", engine, Path(folder))
        made = staging.tables({name: Query(name) for name in schemas}, schemas)
        if left_out is not None:
            left_out += [column for table in made.values() for column in table.left_out]
        return {
            name: engine.execute(f"SELECT {table.select} FROM {table.place}")
            .to_arrow_table()
            .cast(table.schema)
            .to_pandas(types_mapper=INTEGERS.get)
            for name, table in made.items()
        }


def trips(**columns):
    rows = {"day": ["2020-01-01", "2020-01-02"], "number": [1, 2], "town": ["Ely", "Wells"]}
    return pd.DataFrame({**rows, **columns})


def failures(table):
    with pytest.raises(UserError) as error:
        validated({"trips": table, "towns": TOWNS}, SCHEMAS)
    return str(error.value).splitlines()


def test_tables_come_back_typed_and_whole_numbers_may_have_a_point():
    tables = validated({"trips": trips(number=[1.0, 2.0]), "towns": TOWNS}, SCHEMAS)
    assert tables["trips"]["day"].dtype == "datetime64[us]"
    assert tables["trips"]["number"].tolist() == [1, 2]
    assert list(tables) == ["trips", "towns"]
    assert (day_column(Trips), day_column(Towns)) == ("day", None)


def test_a_shared_key_is_one_failure_with_the_whole_key_as_example():
    twice = pd.concat([trips(), trips().head(1)], ignore_index=True)
    assert failures(twice) == [
        "trips: 1 check failed; nothing was written",
        "table  column       check       rows  examples",
        "trips  day, number  unique key  2     2020-01-01 1",
    ]


NINE = {"day": pd.date_range("2020", periods=9), "town": "Ely"}


@pytest.mark.parametrize(
    ("rows", "line"),
    [
        (trips(number=[1.0, 2.5]), "trips number is a whole number (int64) 1 2.5"),
        (trips(town=["Hythe", "Rye"]), "trips town 50% are in towns.name 2 Hythe, Rye"),
        (trips(number=["1 ", " x"]), "trips number is a whole number (int64) 1 ' x'"),
        (trips(town=["Ely ", ""]), "trips town 50% are in towns.name 2 'Ely ', ''"),
        (
            pd.DataFrame({**NINE, "number": list("abcdefghi")}),
            "trips number is a whole number (int64) 9 a, b, c",
        ),
    ],
)
def test_a_failure_has_its_check_its_rows_and_at_most_three_examples(rows, line):
    assert failures(rows)[2].split() == line.split()


def test_references_may_miss_as_many_as_the_schema_allows():
    validated({"trips": trips(town=["Ely", "Rye"]), "towns": TOWNS}, SCHEMAS)


class Visits(pa.DataFrameModel):
    """Its key and its day may be missing, says the schema."""

    day: Series[pa.DateTime] = pa.Field(nullable=True)
    number: Series[pd.Int64Dtype] = pa.Field(nullable=True)
    flag: Series[bool]
    zip: Series[str] = pa.Field(nullable=True)

    class Config:
        unique = ("number",)
        metadata = MappingProxyType({"day": "day"})


VISITS = pd.DataFrame(
    {"day": "2020-01-01", "number": list("1234"), "flag": list("YNyn"), "zip": "02139"}
)


def visits(table):
    return validated({"visits": table}, {"visits": Visits})["visits"]


def lines(table):
    with pytest.raises(UserError) as error:
        visits(table)
    return [" ".join(line.split()) for line in str(error.value).splitlines()[2:]]


def test_text_is_read_as_the_schema_says_whether_it_coerces_or_not():
    rows = visits(VISITS.assign(zip=pd.Series(["02139", None, "2139", "N"])))
    assert rows["flag"].tolist() == [True, False, True, False]
    assert rows["zip"].iloc[[0, 2, 3]].tolist() == ["02139", "2139", "N"]
    assert rows["number"].dtype == pd.Int64Dtype()


def test_text_that_is_no_yes_or_no_is_refused():
    assert lines(VISITS.assign(flag=pd.Series(["Y", "N", "maybe", None]))) == [
        "visits flag is true or false 1 maybe",
        "visits flag no missing values 1 missing",
    ]


def test_a_type_that_has_no_missing_values_is_named_where_some_are():
    class Rows(pa.DataFrameModel):
        n: Series[int] = pa.Field(nullable=True)

    with pytest.raises(UserError, match="n +has a type with missing values, not int64  1 +missing"):
        validated({"rows": pd.DataFrame({"n": ["1", None]})}, {"rows": Rows})


@pytest.mark.parametrize("column", ["day", "number"])
def test_rows_whose_key_or_day_is_missing_are_refused(column):
    table = VISITS.assign(**{column: VISITS[column].where(VISITS.index > 1)})
    assert lines(table) == [f"visits {column} no missing values in a key or day 2 missing"]


def test_whatever_pandera_finds_refuses():
    class Rows(pa.DataFrameModel):
        n: Series[int]

        @pa.dataframe_check
        @classmethod
        def never(cls, rows: pd.DataFrame) -> bool:
            return False

    with pytest.raises(UserError, match="rows: 1 check failed"):
        validated({"rows": pd.DataFrame({"n": ["1"]})}, {"rows": Rows})


def test_all_missing_and_unknown_columns_are_listed_with_values_and_ranges():
    table = trips().rename(columns={"town": "twon"}).drop(columns="number")
    pixels = pd.DataFrame({f"pixel_{n}": [n, n] for n in range(300)})
    lines = failures(pd.concat([table, pixels], axis=1))[2:]
    assert [" ".join(line.split()) for line in lines] == [
        "trips number is there 0 missing",
        "trips town is there 0 missing; did you mean 'twon'?",
        "trips pixel_0 to pixel_299 is known 2 not in the schema",
        "trips twon is known 2 not in the schema: Ely, Wells; did you mean 'town'?",
    ]


def test_a_column_that_is_in_no_schema_is_left_out_and_listed():
    raw = {"visits": VISITS.assign(extra=1, v1=1, v2=2, v3=3)}
    tables = validated(raw, {"visits": Visits}, left_out := [])
    assert list(tables["visits"]) == list(VISITS)
    assert left_out == ["visits.extra", "visits.v1 to v3"]


def test_columns_that_a_pattern_declares_are_known():
    class Pixels(pa.DataFrameModel):
        pixel: Series[int] = pa.Field(regex=True, alias=r"pixel_\d+")

        class Config:
            strict = True

    table = pd.DataFrame({"pixel_1": ["1"], "pixel_2": ["2"]})
    assert validated({"rows": table}, {"rows": Pixels})["rows"].iloc[0].tolist() == [1, 2]


def test_a_schema_s_own_parser_sees_what_fits_in_its_type_and_the_rest_as_it_is():
    class Rows(pa.DataFrameModel):
        n: Series[int]
        price: Series[float]

        @pa.dataframe_parser
        @classmethod
        def with_points(cls, rows: pd.DataFrame) -> pd.DataFrame:
            return rows.assign(price=rows["price"].str.replace(",", "."), n=rows["n"] + 1)

    table = pd.DataFrame({"n": ["1"], "price": ["1,5"]})
    assert validated({"rows": table}, {"rows": Rows})["rows"].iloc[0].tolist() == [2, 1.5]


def test_consecutive_numbers_are_one_range():
    names = ["x1", "x2", "y", "2020-11", "2020-12", "2021-01", "2021-02", "2021-03", "b08", "b09"]
    assert ranges(names) == [
        *("x1", "x2", "y", "2020-11", "2020-12", "2021-01 to 2021-03", "b08", "b09")
    ]


@pytest.mark.parametrize(
    ("table", "line"),
    [
        (pd.DataFrame({"wind": ["1.5", "1,5"]}), r"wind +is a number \(float64\)  1 +1,5"),
        (pd.DataFrame({"7.5": ["8", "9"]}), r"\* +names of columns  0 .* like values: 7\.5"),
    ],
)
def test_a_parser_that_stumbles_over_what_does_not_fit_is_not_what_is_said(table, line):
    class Rows(pa.DataFrameModel):
        wind: Series[float]

        @pa.dataframe_parser
        @classmethod
        def without_storms(cls, rows: pd.DataFrame) -> pd.DataFrame:
            return rows.assign(wind=rows["wind"].mask(rows["wind"] > 250))

    with pytest.raises(UserError, match=line):
        validated({"rows": table}, {"rows": Rows})


def test_a_first_line_of_values_is_said_to_be_one():
    first, second = trips().astype(str).to_numpy()
    [line] = failures(pd.DataFrame([second], columns=first))[2:]
    said = "trips * names of columns 0 the first line looks like values: 2020-01-01, 1, Ely"
    assert " ".join(line.split()) == said


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            {"unique": ["nam"]},
            "towns: unique: found 'nam', expected a column; did you mean 'name'?",
        ),
        ({"metadata": {"day": "dy"}}, "towns: day: found 'dy', expected a column"),
        ({"field": "cities.name"}, "towns: references: found 'cities.name', expected a column"),
    ],
)
def test_a_name_in_a_schema_that_no_column_has_is_refused(config, message):
    """A misspelt key would switch its check off."""
    field = pa.Field(metadata={"references": config.pop("field")} if "field" in config else None)
    towns = type(
        "Towns",
        (pa.DataFrameModel,),
        {
            "__annotations__": {"name": Series[str]},
            "name": field,
            "Config": type("Config", (), config),
        },
    )
    with pytest.raises(UserError, match=re.escape(f"tables.py: {message}")):
        validated({"towns": TOWNS}, {"towns": towns})


class Numbers(pa.DataFrameModel):
    """What is about all rows at once."""

    n: Series[int] = pa.Field(unique=True, nullable=True)
    word: Series[str] = pa.Field(unique_values_eq=["a", "b", "c"])

    @pa.check("n", name="a mean below 9")
    @classmethod
    def low(cls, values: Series[int]) -> bool:
        return bool(values.mean() < 9)

    @pa.dataframe_check
    @classmethod
    def five_rows(cls, rows: pd.DataFrame) -> bool:
        return len(rows) == 5


def test_a_check_that_gives_one_answer_is_made_on_all_rows_and_not_on_each_batch():
    good = pd.DataFrame({"n": [10, 11, 1, 2, 3], "word": list("aabbc")})
    assert len(validated({"rows": good}, {"rows": Numbers})["rows"]) == 5
    bad = pd.DataFrame({"n": [1, 2, 3, 40, 1, 1], "word": list("aabbaa")})
    with pytest.raises(UserError) as error:
        validated({"rows": bad}, {"rows": Numbers})
    lines = [" ".join(line.split()) for line in str(error.value).splitlines()[2:]]
    assert lines == [
        "rows Numbers five_rows 1 False",
        "rows n field_uniqueness 3 1",
        "rows word unique_values_eq(['a', 'b', 'c']) 1 False",
    ]


def test_failures_of_all_batches_add_up_and_keep_their_first_examples():
    table = pd.concat([trips().astype({"number": str})] * 9, ignore_index=True)
    table["number"] = [f"x{row % 5}" for row in table.index]
    assert " ".join(failures(table)[2].split()) == (
        "trips number is a whole number (int64) 18 x0, x1, x2"
    )
