"""The feature table is typed and ordered alike whatever made it."""

import datetime as dt

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops.base.errors import UserError
from mlops.contract import dataset
from mlops.contract.project import Features

SPEC = Features(
    build=dict, key="id", day="day", target="y", features={"n": "unit", "word": "category"},
    slices=("word",), baseline="n",
)  # fmt: skip


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


@given(st.permutations([0, 1, 2]))
def test_rows_are_ordered_by_day_and_key_and_columns_as_declared(order):
    typed = dataset.typed(table().take(order), SPEC)
    assert typed["id"].tolist() == ["1", "2", "3"]
    assert list(typed) == ["id", "day", "y", "n", "word"]
    pd.testing.assert_frame_equal(typed, dataset.typed(table(), SPEC))


def test_numbers_become_float32_whatever_they_were():
    for values in ([1, 2, None], pd.array([1, 2, None], dtype="Int64"), [1.0, 2.0, np.nan]):
        assert dataset.typed(table(n=values), SPEC)["n"].dtype == np.float32


def test_a_declared_column_that_is_not_made_is_named_with_the_nearest():
    with pytest.raises(UserError) as error:
        dataset.typed(table().rename_columns({"word": "words"}), SPEC)
    assert str(error.value) == "features: word: declared, but not made; did you mean 'words'?"


def test_a_models_input_has_no_missing_words_and_keeps_missing_numbers():
    frame = dataset.inputs(dataset.typed(table(), SPEC), SPEC)
    assert frame["word"].tolist() == ["", "a", "b"]
    assert frame["n"].isna().tolist() == [False, True, False]
