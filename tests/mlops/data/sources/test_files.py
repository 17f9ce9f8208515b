"""The same rows come from CSV and Parquet, plain or packed, in a file, a folder or at a URL."""

import datetime as dt
import gzip
import io
import zipfile

import fsspec
import pandas as pd
import pyarrow as pa
import pytest

from mlops.base.errors import UserError
from mlops.data.sources import Query, files, formats

ROWS = pd.DataFrame({"x": [1.5, None, 3.0], "word": ["a", None, "None"], "n": [1, 2, 3]})
ROWS["n"] = ROWS["n"].astype("Int64")
TEXT = pd.DataFrame({"x": ["1.5", None, "3.0"], "word": ["a", None, "None"], "n": list("123")})


INTEGERS = {pa.int64(): pd.Int64Dtype()}


def write(folder, name, rows=ROWS):
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    if ".parquet" in name:
        rows.to_parquet(folder / name)
    else:
        rows.to_csv(folder / name, index=False)


def read(folder, **query):
    batches = files.read(str(folder), Query("rows", **query)).batches
    rows = pd.concat([batch.to_pandas(types_mapper=INTEGERS.get) for batch in batches])
    return rows.reset_index(drop=True)


def refused(folder):
    """What `read` says, in one line."""
    with pytest.raises(UserError) as error:
        read(folder)
    assert len(str(error.value).splitlines()) == 1
    return str(error.value).replace(str(folder), "in")


@pytest.mark.parametrize("name", [f"rows{ending}" for ending in files.ENDINGS])
@pytest.mark.parametrize("folder", ["", "rows/2020/"])
def test_a_file_is_read_plain_or_packed_and_csv_as_text(tmp_path, folder, name):
    write(tmp_path, folder + name)
    pd.testing.assert_frame_equal(read(tmp_path), TEXT if ".csv" in name else ROWS)


@pytest.mark.parametrize("ending", [".parquet", ".csv"])
def test_a_folder_is_read_in_the_order_of_names_without_what_programs_leave_there(tmp_path, ending):
    write(tmp_path, f"rows/2020/b{ending}", ROWS.tail(2))
    write(tmp_path, f"rows/2020/a{ending}", ROWS.head(1))
    for name in ("_temporary/0/part", ".hidden/part", "_part", ".part"):
        write(tmp_path, f"rows/{name}{ending}")
    (tmp_path / "rows/_SUCCESS").touch()
    assert read(tmp_path)["n"].astype(int).tolist() == [1, 2, 3]


def test_the_names_of_folders_give_columns(tmp_path):
    write(tmp_path, "rows/day=2020-01-01/town=Bad%20Ischl/part.parquet", ROWS.head(1))
    write(tmp_path, "rows/day=2020-01-02/town=__HIVE_DEFAULT_PARTITION__/part.parquet", ROWS[1:2])
    rows = read(tmp_path)
    assert rows["day"].tolist() == ["2020-01-01", "2020-01-02"]
    assert rows["town"].tolist() == ["Bad Ischl", None]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("_delta_log/00000000000000000001.json", "Delta"),
        ("metadata/v1.metadata.json", "Iceberg"),
        (".hoodie/hoodie.properties", "Hudi"),
    ],
)
def test_a_folder_that_holds_removed_rows_too_is_refused(tmp_path, name, kind):
    write(tmp_path, "rows/part.parquet")
    (tmp_path / "rows" / name).parent.mkdir()
    (tmp_path / "rows" / name).write_text("{}")
    assert refused(tmp_path) == (
        f"in/rows: found a table of {kind}, whose folder holds removed rows too; export it as "
        "plain Parquet, or read it with a source of your own (docs/extend.md)"
    )


ALL = "rows{.parquet,.parquet.gzip,.csv,.csv.gz,.csv.zip} or a folder rows/ of such files"


@pytest.mark.parametrize(
    ("names", "line"),
    [
        (["rows.xlsx"], f"in: no table 'rows'; found rows.xlsx; expected {ALL}"),
        (["Rows.csv"], f"in: no table 'rows'; found Rows.csv; expected {ALL}"),
        (["row.csv"], f"in: no table 'rows'; did you mean 'row'?; expected {ALL}"),
        (["rows.csv", "rows.parquet"],
         "in: rows: found rows.csv and rows.parquet, expected one"),
        (["rows/a.csv", "rows/b.xlsx"],
         "in/rows/b.xlsx: expected a file that ends in .parquet, .parquet.gzip, .csv, .csv.gz, "
         ".csv.zip"),
    ],
)  # fmt: skip
def test_what_is_not_one_table_is_refused_with_what_is_there(tmp_path, names, line):
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x,word,n\n")
    assert refused(tmp_path) == line


def zipped(**members):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, text in members.items():
            archive.writestr(name, text)
    return content.getvalue()


PACKED = gzip.compress(TEXT.to_csv(index=False).encode(), mtime=0)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("rows.parquet", ROWS.to_parquet(index=False)[:-9],
         "ArrowInvalid: Parquet magic bytes not found in footer. Either the file is corrupted or "
         "this is not a parquet file."),
        ("rows.csv.gz", PACKED[:-9],
         "EOFError: Compressed file ended before the end-of-stream marker was reached"),
        ("rows.csv.zip", zipped(a="x\n1\n", b="x\n2\n"),
         "ValueError: found 2 files in it, expected one"),
        ("rows.csv", b"x,n\n1,2\n1\n",
         "ArrowInvalid: CSV parse error: Row #3: Expected 2 columns, got 1: 1"),
        ("rows.csv", b'x,n\n1,"a\n2,b\n3,c\n',
         "ValueError: a quote is not closed before 'a'"),
        ("rows.csv", b"x,n,x\n1,2,3\n", 
         "ValueError: column 'x' is there twice in the first line"),
        ("rows.csv", PACKED, "ValueError: found gzip; give it a name that ends in .csv.gz"),
        ("rows.csv", b"x,n\na\0,2\n",
         "ValueError: found a NUL at 5, expected text in UTF-8, or UTF-16 with its mark"),
        ("rows.csv", "x,n\na\0,2\n".encode("utf-16"),
         "ValueError: found a NUL at 5, expected text in UTF-8, or UTF-16 with its mark"),
        ("rows.csv", b"x,n\ncaf\xe9,2\n",
         "not utf-8 at byte 7; convert it, as by iconv -t UTF-8"),
    ],
)  # fmt: skip
def test_a_broken_file_is_one_line(tmp_path, name, content, reason):
    (tmp_path / name).write_bytes(content)
    assert refused(tmp_path) == f"in/{name}: can't be read: {reason}"


def test_what_macos_adds_to_a_zip_is_no_table(tmp_path):
    content = zipped(**{"rows.csv": "x\n1\n", "__MACOSX/._rows.csv": "?"})
    (tmp_path / "rows.csv.zip").write_bytes(content)
    assert read(tmp_path)["x"].tolist() == ["1"]


@pytest.mark.parametrize("ending", [".parquet", ".csv"])
def test_a_folder_may_be_named_as_a_file(tmp_path, ending):
    write(tmp_path, f"rows{ending}/part-0{ending}")
    assert len(read(tmp_path)) == 3
    assert list(files.fingerprint(str(tmp_path), [Query("rows")])) == [
        f"rows{ending}/part-0{ending}"
    ]


@pytest.mark.parametrize("delimiter", [";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_other_delimiters_and_unicode_with_its_mark_are_read(tmp_path, delimiter, encoding):
    text = TEXT.assign(word="a, \u00fc").to_csv(index=False, sep=delimiter)
    (tmp_path / "rows.csv").write_bytes(text.encode(encoding))
    pd.testing.assert_frame_equal(read(tmp_path), TEXT.assign(word="a, \u00fc"))


def test_a_url_is_read_as_a_folder_is():
    with fsspec.open("memory://bucket/rows.csv", "w") as file:
        ROWS.to_csv(file, index=False)
    pd.testing.assert_frame_equal(read("memory://bucket"), TEXT)


def test_na_and_empty_are_missing_and_other_words_are_words(tmp_path):
    (tmp_path / "rows.csv").write_text('word\nNA\n""\nnull\nnan\nNaN\n')
    assert read(tmp_path)["word"].isna().tolist() == [True, True, False, False, False]


def test_large_whole_numbers_of_parquet_stay_apart_where_some_are_missing(tmp_path):
    write(
        tmp_path, "rows.parquet", pd.DataFrame({"n": pd.array([2**53, 2**53 + 1, None], "Int64")})
    )
    assert read(tmp_path)["n"].dropna().tolist() == [2**53, 2**53 + 1]


def test_a_named_index_of_parquet_is_a_column_and_another_is_none(tmp_path):
    write(tmp_path, "rows/a.parquet", ROWS.set_index("n"))
    write(tmp_path, "rows/b.parquet", ROWS[ROWS["n"] > 1])
    assert read(tmp_path)["n"].tolist() == [1, 2, 3, 2, 3]
    assert set(read(tmp_path)) == {"x", "word", "n"}


def test_the_fingerprint_is_of_the_content_of_what_is_read_and_of_nothing_else(tmp_path):
    write(tmp_path, "rows/a.csv")
    before = files.fingerprint(str(tmp_path), [Query("rows")])
    assert list(before) == ["rows/a.csv"]
    write(tmp_path, "others.csv")
    write(tmp_path, "rows/_temporary/a.csv")
    write(tmp_path, "rows/a.csv")
    assert files.fingerprint(str(tmp_path), [Query("rows")]) == before
    write(tmp_path, "rows/a.csv", ROWS.assign(x=2.5))
    assert files.fingerprint(str(tmp_path), [Query("rows")]) != before


def test_a_version_that_the_store_knows_stands_for_the_content(tmp_path, monkeypatch):
    system = fsspec.filesystem("memory")
    about = {"size": 7, "ETag": '"abc"'}
    monkeypatch.setattr(system, "info", lambda path: about)
    monkeypatch.setattr(system, "open", None)
    assert files.state("/bucket/rows.csv", system) == '7 bytes, version "abc"'


@pytest.mark.parametrize(
    ("location", "said"),
    [
        ("nowhere", "params.yaml: data.location: found 'nowhere', no such folder"),
        ("nosuch://bucket", "params.yaml: data.location: nosuch://bucket: ValueError: Protocol "),
        ("s3://bucket", "params.yaml: data.location: s3://bucket: ImportError: "),
    ],
)
def test_a_place_that_cannot_be_read_is_named(location, said):
    query = Query("rows")
    for call in (lambda: files.read(location, query), lambda: files.fingerprint(location, [query])):
        with pytest.raises(UserError) as error:
            call()
        assert str(error.value).startswith(said)
        assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize("header", ["id,Age", "id"])
def test_a_file_of_a_table_without_a_column_of_the_others_is_refused(tmp_path, header):
    """Its rows would have missing values without a word."""
    folder = tmp_path / "people"
    folder.mkdir()
    (folder / "a.csv").write_text("id,age\n1,40\n")
    (folder / "b.csv").write_text(f"{header}\n{header.replace('id', '2').replace('Age', '50')}\n")
    lost = ("a.csv", "Age") if header == "id,Age" else ("b.csv", "age")
    message = (
        f"{folder / lost[0]}: found no column '{lost[1]}', which other files of the table have"
    )
    with pytest.raises(UserError) as refused:
        list(files.read(str(tmp_path), Query("people")).batches)
    assert str(refused.value) == message


@pytest.mark.parametrize("ending", [".csv", ".parquet"])
def test_only_the_columns_asked_for_are_given_and_all_are_named(tmp_path, ending):
    write(tmp_path, f"rows{ending}")
    query = Query("rows", columns=("word", "n", "other"))
    columns, batches = files.read(str(tmp_path), query)
    assert columns == ("x", "word", "n")
    assert next(batches).schema.names == ["word", "n"]


def test_groups_of_rows_of_other_days_are_not_read_unless_a_day_is_missing_there(tmp_path):
    days = pd.Series(pd.date_range("2021-01-01", periods=8)).astype("datetime64[us]")
    days[5] = None
    pd.DataFrame({"day": days}).to_parquet(tmp_path / "rows.parquet", row_group_size=2)
    some = {"day": "day", "since": dt.date(2021, 1, 3), "until": dt.date(2021, 1, 3)}
    assert read(tmp_path, **some)["day"].dt.day.fillna(0).tolist() == [3, 4, 5, 0]


def test_a_file_that_grows_while_it_is_read_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(formats, "BLOCK", 64)
    (tmp_path / "rows.csv").write_text("n\n" + "1\n" * 1000)
    batches = files.read(str(tmp_path), Query("rows")).batches
    next(batches)
    with (tmp_path / "rows.csv").open("a") as file:
        file.write("2\n")
    with pytest.raises(UserError, match=r"rows\.csv: can't be read: .*changed while it was read"):
        list(batches)
