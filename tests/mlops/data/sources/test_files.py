"""The same rows come from CSV and Parquet, plain or packed, in a file, a folder or at a URL."""

import fsspec
import pandas as pd
import pytest

from mlops.base.errors import UserError
from mlops.data.sources import files

ROWS = pd.DataFrame({"x": [1.5, None, 3.0], "word": ["a", None, "None"], "n": [1, 2, 3]})


def write(folder, name, rows=ROWS):
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    if name.endswith(".parquet"):
        rows.to_parquet(folder / name)
    else:
        rows.to_csv(folder / name, index=False)


@pytest.mark.parametrize("name", [f"rows{ending}" for ending in files.ENDINGS])
def test_a_file_is_read_plain_or_packed(tmp_path, name):
    write(tmp_path, name)
    pd.testing.assert_frame_equal(files.read(str(tmp_path), ["rows"])["rows"], ROWS)


def test_parquet_is_read_from_a_folder_in_the_order_of_names(tmp_path):
    write(tmp_path, "rows/2020/b.parquet", ROWS.tail(2))
    write(tmp_path, "rows/2020/a.parquet", ROWS.head(1))
    pd.testing.assert_frame_equal(files.read(str(tmp_path), ["rows"])["rows"], ROWS)


def test_a_url_is_read_as_a_folder_is():
    with fsspec.open("memory://bucket/rows.csv", "w") as file:
        ROWS.to_csv(file, index=False)
    pd.testing.assert_frame_equal(files.read("memory://bucket", ["rows"])["rows"], ROWS)


def test_na_and_empty_are_missing_and_other_words_are_words(tmp_path):
    (tmp_path / "rows.csv").write_text('word\nNA\n""\nnull\nnan\nNaN\n')
    words = files.read(str(tmp_path), ["rows"])["rows"]["word"]
    assert words.isna().tolist() == [True, True, False, False, False]


@pytest.mark.parametrize(
    ("location", "said"),
    [
        ("nowhere", "params.yaml: data.location: found 'nowhere', no such folder"),
        ("nosuch://bucket", "params.yaml: data.location: nosuch://bucket: ValueError: Protocol "),
        ("s3://bucket", "params.yaml: data.location: s3://bucket: ImportError: "),
    ],
)
def test_a_place_that_cannot_be_read_is_named(location, said):
    with pytest.raises(UserError) as error:
        files.read(location, ["rows"])
    assert str(error.value).startswith(said)
    assert len(str(error.value).splitlines()) == 1
