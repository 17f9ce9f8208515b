"""The feature table is typed alike whatever made it, and in whatever batches."""

import dataclasses
import datetime as dt

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from mlops.base.errors import UserError
from mlops.contract import dataset
from mlops.contract.project import Features
from mlops.data import feature_types

SPEC = Features(
    build=dict, key="id", day="day", target="y", features={"n": "unit", "word": "category"},
    slices=("word",), baseline="n",
)  # fmt: skip

# The first eight bytes of BLAKE2b of `holdout:k0` and `holdout:k1`, as parts of 2**64.
SHARES = [0.4705509762508242, 0.6538543487330555]


def table(**columns):
    rows = {
        "id": [3, 1, 2],
        "day": [dt.date(2020, 1, 2), dt.date(2020, 1, 1), dt.date(2020, 1, 1)],
        "y": [1, 0, None],
        "n": [1, 2, None],
        "word": ["b", None, "a"],
        "other": [0, 0, 0],
    }
    return pa.Table.from_pandas(pd.DataFrame({**rows, **columns}))


def made(**columns):
    """The same table with columns of Arrow's types."""
    rows = table()
    for name, values in columns.items():
        rows = rows.set_column(rows.column_names.index(name), name, values)
    return rows


def typed(rows, spec, batch=2):
    """The rows typed in small batches, ordered by their key."""
    feature_types.require_made(rows.column_names, spec)
    typing = feature_types.Typing(rows.schema, spec)
    made = [typing.batch(rows.slice(first, batch)) for first in range(0, len(rows), batch)]
    typing.require_sound()
    return pa.concat_tables(made).sort_by("id").to_pandas()


def test_columns_are_as_declared():
    assert list(typed(table(), SPEC)) == ["id", "day", "y", "n", "word"]


def decimals(*values, digits=38, scale=0):
    return pa.array(values, pa.decimal128(digits, scale))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (pa.array([1, 2, None]), [1, 2, np.nan]),
        (pa.array([1.0, 2.0, np.nan]), [1, 2, np.nan]),
        # What DuckDB makes of a sum of whole numbers, and of a product with 0.1.
        (decimals(1, 2, None), [1, 2, np.nan]),
        (pa.array(["0.1", "0.2", "0.3"]).cast(pa.decimal128(12, 1)), [0.1, 0.2, 0.3]),
        (pa.array([True, False, None]), [1, 0, np.nan]),
        (pa.nulls(3), [np.nan] * 3),
    ],
)
def test_a_declared_number_becomes_float32_whatever_the_engine_made(values, expected):
    frame = typed(made(n=values), SPEC)
    assert frame["n"].dtype == np.float32
    assert frame.set_index("id").loc[["3", "1", "2"], "n"].tolist() == pytest.approx(
        expected, rel=1e-6, nan_ok=True
    )


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (pa.array([7, 8, None]), ["7", "8", ""]),
        (decimals(7, 2**60, None), ["7", str(2**60), ""]),
        (pa.array(["b", None, "a"]).dictionary_encode(), ["b", "", "a"]),
    ],
)
def test_a_declared_category_becomes_text_whatever_the_engine_made(values, expected):
    frame = dataset.inputs(typed(made(word=values), SPEC), SPEC)
    # The rows' keys are 3, 1, 2.
    assert [frame["word"].tolist()[place] for place in (2, 0, 1)] == expected


@pytest.mark.parametrize(
    ("column", "values", "line"),
    [
        ("n", pa.array(["1", "2", "x"]),
         "n: found string, expected a number, or 'category' as its unit"),
        ("n", pa.array([dt.date(2020, 1, 1)] * 3),
         "n: found date32[day], expected a number, or 'category' as its unit"),
        *(("word", values, f"word: found {kind}, expected text or a whole number; a boolean is a "
           "number, 0 or 1: give it a unit")
          for kind, values in [("date32[day]", pa.array([dt.date(2020, 1, 1)] * 3)),
                               ("double", pa.array([0.5, 1.5, 2.5])),
                               ("bool", pa.array([True, False, None]))]),
        ("n", pa.array([1.0, np.inf, -np.inf]),
         "n: infinite or too large for float32 in 2 rows, expected numbers below 3.4e38, or "
         "NULL where there is none"),
        ("n", pa.array([1.0, 1e39, 2.0]),
         "n: infinite or too large for float32 in 1 rows, expected numbers below 3.4e38, or "
         "NULL where there is none"),
        ("id", pa.array(["a", None, None]),
         "id: 2 rows without a value, expected one in every row"),
        ("day", pa.array(["2020-01-01"] * 3),
         "day: found string, expected a date or a timestamp"),
        ("y", pa.array([dt.date(2020, 1, 1)] * 3),
         "y: found date32[day], expected a number, text or a boolean"),
        ("y", pa.array([0.5, np.inf, 1.0]),
         "y: found an infinite value, expected finite numbers"),
    ],
)  # fmt: skip
def test_values_that_are_not_what_is_declared_are_refused_by_name(column, values, line):
    with pytest.raises(UserError) as error:
        typed(made(**{column: values}), SPEC)
    assert str(error.value) == f"features: {line}"


def test_the_largest_number_says_whether_float32_may_keep_fewer():
    typing = feature_types.Typing((rows := made(n=pa.array([2**24, -(2**25), None]))).schema, SPEC)
    typing.batch(rows)
    assert typing.largest["n"] == 2**25


@pytest.mark.parametrize(
    ("task", "values", "declared", "names", "numbers"),
    [
        ("binary", pa.array(["no", "yes", "no"]), (), ("no", "yes"), [1, 0, 0]),
        ("binary", pa.array(["no", "yes", "no"]), ("yes", "no"), ("yes", "no"), [0, 1, 1]),
        ("binary", pa.array([True, False, False]), (), ("0", "1"), [0, 0, 1]),
        ("binary", pa.array([1, 2, 1]), (), ("1", "2"), [1, 0, 0]),
        ("multiclass", pa.array([10, 9, 2]), (), ("2", "9", "10"), [1, 0, 2]),
        ("binary", pa.array([1.0, 0.0, 1.0]), (), ("0", "1"), [0, 1, 1]),
        ("regression", pa.array([1.5, 2.0, 3.0]), (), (), [2.0, 3.0, 1.5]),
        ("regression", decimals(1, 2, 3), (), (), [2.0, 3.0, 1.0]),
    ],
)  # fmt: skip
def test_classes_are_numbered_in_the_order_declared_or_sorted(
    task, values, declared, names, numbers
):
    spec = dataclasses.replace(SPEC, classes=declared)
    table = typed(made(y=values), spec)
    assert dataset.classes(table, spec, task) == names
    assert dataset.target(table, spec, names).tolist() == numbers


def test_a_class_that_is_not_declared_or_not_known_is_named():
    spec = dataclasses.replace(SPEC, classes=("yes", "no"))
    with pytest.raises(UserError) as error:
        typed(made(y=pa.array(["yes", "nope", "no"])), spec)
    assert str(error.value) == (
        "features: y: found 'nope', expected one of CLASSES; did you mean 'no'?"
    )
    table = typed(made(y=pa.array(["a", "b", "c"])), SPEC)
    with pytest.raises(UserError) as error:
        dataset.target(table, SPEC, ("a", "b"))
    assert str(error.value) == (
        "features: y: found c, expected only classes that the training rows have: a, b"
    )
    with pytest.raises(UserError) as error:
        dataset.target(table, SPEC, ())
    assert str(error.value) == (
        "features: y: found text, such as 'b', expected numbers for a regression"
    )


@pytest.mark.parametrize(
    ("task", "values", "line"),
    [
        ("binary", [0.5, 1.5, 2.5], "found 0.5, 1.5, 2.5; expected two classes (models.py: TASK: "
         "binary)"),
        ("binary", list("abcdefg"), "found a, b, c, d, e and 2 more; expected two classes "
         "(models.py: TASK: binary)"),
        ("multiclass", [0.5, 1.0, 2.0], "found 0.5, 1.0, 2.0; expected classes (models.py: TASK: "
         "multiclass)"),
    ],
)  # fmt: skip
def test_values_that_are_no_classes_of_the_task_are_refused(task, values, line):
    with pytest.raises(UserError) as error:
        dataset.classes(pd.DataFrame({"y": values}), SPEC, task)
    assert str(error.value) == f"features: y: {line}"


def test_the_hash_of_a_value_is_the_same_everywhere_and_spreads_evenly():
    values = pd.Series([f"k{number}" for number in range(20_000)])
    places = dataset.share(values, "holdout")
    assert places[:2].tolist() == pytest.approx(SHARES)
    assert np.histogram(places, 10, (0, 1))[0].min() > 1800
    assert dataset.share(values[::-1], "holdout").tolist() == places[::-1].tolist()
    other = dataset.share(values, "fold")
    assert abs(np.corrcoef(places, other)[0, 1]) < 0.03


def test_a_sample_keeps_each_class_its_share_and_rare_ones_more():
    outcome = np.zeros(10_000, dtype=int)
    outcome[:2500], outcome[-3:] = 1, 2
    kept = dataset.sample(outcome, 1000, ("0", "1", "2"), seed=1)
    assert np.bincount(outcome[kept]).tolist() == [750, 250, 3]
    assert (np.diff(kept) > 0).all()
    assert kept.tolist() == dataset.sample(outcome, 1000, ("0", "1", "2"), seed=1).tolist()
    assert len(dataset.sample(outcome * 1.5, 1000, (), seed=1)) == 1000


@pytest.mark.parametrize("task", ["multiclass", "regression"])
def test_a_sample_of_a_file_keeps_rare_classes_and_the_order_and_stays_as_rows_come(tmp_path, task):
    path, rows = tmp_path / "part's.parquet", 9000
    outcome = np.where(np.arange(rows) % 4 < 3, 0, 1)
    outcome[-3:] = 2
    frame = pd.DataFrame({"id": [f"k{n}" for n in range(rows)], "y": outcome})
    frame["n"] = np.arange(rows, dtype="float32")
    frame.to_parquet(path, index=False)
    assert len(dataset.sampled(path, None, SPEC, task)[0]) == rows
    kept, every = dataset.sampled(path, 1000, SPEC, task)
    assert 990 < len(kept) <= 1000 < every == rows
    pd.testing.assert_frame_equal(kept, frame.iloc[kept["n"]].reset_index(drop=True))
    if task == "multiclass":
        assert kept["y"].value_counts().tolist() == pytest.approx([745, 250, 3], abs=10)
    frame.iloc[::-1].to_parquet(path, index=False)
    again, _ = dataset.sampled(path, 1000, SPEC, task)
    assert set(again["id"]) == set(kept["id"])
    frame.head(8000).to_parquet(path, index=False)
    fewer, _ = dataset.sampled(path, 1000 * 8 // 9, SPEC, task)
    assert len(set(fewer["id"]) - set(kept["id"])) < 50


def test_a_declared_column_that_is_not_made_is_named_with_the_nearest():
    with pytest.raises(UserError) as error:
        typed(table().rename_columns({"word": "words"}), SPEC)
    assert str(error.value) == "features: word: declared, but not made; did you mean 'words'?"


def test_a_models_input_has_no_missing_words_and_keeps_missing_numbers():
    frame = dataset.inputs(typed(table(), SPEC), SPEC)
    assert frame["word"].tolist() == ["", "a", "b"]
    assert frame["n"].isna().tolist() == [False, True, False]
