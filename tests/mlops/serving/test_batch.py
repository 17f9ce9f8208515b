"""Scoring whole tables: every row once, in order, in bounded memory, whole or not at all."""

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mlops.base.errors import Refused, UserError
from mlops.contract import bundle
from mlops.serving import batch, model
from tests.mlops.serving import bundles

FAMILY = {"binary": "lightgbm", "multiclass": "linear", "regression": "xgboost"}
TASKS = list(FAMILY)

# Each makes tables of its own, and scores them whole.
pytestmark = pytest.mark.slow


def people(rows, seed=0):
    """A table with a key, two numbers (one of them with gaps), a word, and a day."""
    dice = np.random.default_rng(seed)
    frame = pd.DataFrame({"id": [f"{number:07}" for number in range(rows)]})
    frame["age"] = dice.normal(40, 15, rows).astype(np.float32)
    frame["colour"] = dice.choice(["red", "green", "blue", ""], rows)
    frame["sum"] = dice.normal(0, 1e4, rows)
    frame["day"] = pd.date_range("2020-01-01", periods=rows, freq="min", unit="us")
    frame.loc[dice.random(rows) < 0.1, "age"] = np.nan
    return frame


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A small real bundle for each task."""
    base, folders = tmp_path_factory.mktemp("made"), {}
    frame = people(600)[["age", "colour", "sum"]]
    frame["sum"] = frame["sum"].astype(np.float32)
    for task, family in FAMILY.items():
        card = bundles.card(frame, family, task) | {"name": "people"}
        card["threshold"] = 0.3 if task == "binary" else None
        model = bundles.exported(family, task, frame)
        folders[task] = bundles.write(base / task, model, card, frame)
    return folders


@pytest.fixture
def small(monkeypatch):
    """Pieces of a hundred rows, so that a small table has many."""
    monkeypatch.setattr(batch, "ROWS", 100)


def agrees(task, folder, table, frame):
    """Whether a scored table says what the bundle says of the frame, in its order."""
    scores, names = bundle.Scorer(folder).predict(frame), list(bundle.read_card(folder).outputs)
    decided = {"decision": scores >= 0.3} if task == "binary" else {}
    if task == "multiclass":
        decided = {"class": scores.argmax(axis=1)}
    np.testing.assert_array_equal(table[names].to_numpy().squeeze(), scores)
    for name, values in decided.items():
        np.testing.assert_array_equal(table[name], values)
    assert list(table) == [*frame, *names, *decided, "refused"]
    assert table["id"].tolist() == frame["id"].tolist()
    assert table["refused"].isna().all()


def parquet(frame, path, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    frame.to_parquet(path, index=False, **options)
    return str(path)


def scored(folder, name):
    """The scored table of the input `name` below a folder."""
    batch.run(folder, name, Path(name).parent / "out.parquet", replace=True)
    return pd.read_parquet(Path(name).parent / "out.parquet")


@pytest.mark.parametrize("case", ["folder", *TASKS])
def test_rows_are_scored_as_the_bundle_scores_them_in_their_order(made, small, case, tmp_path):
    task, frame = case if case in TASKS else "binary", people(1234, seed=1)
    for start in range(0, len(frame), 140):
        parquet(frame[start : start + 140], tmp_path / f"folder/{start:04}.parquet")
    (tmp_path / "folder/_SUCCESS").touch()
    parquet(frame, tmp_path / "file.parquet", row_group_size=130)
    name = "folder" if case == "folder" else "file.parquet"
    agrees(task, made[task], scored(made[task], f"{tmp_path}/{name}"), frame)


def test_csv_keeps_its_texts(made, small, tmp_path):
    task, frame = "multiclass", people(345, seed=2)
    frame["id"] = [f'{n}, "a"\nb' for n in frame["id"]]
    frame.to_csv(tmp_path / "in.csv", index=False, na_rep="NA")
    batch.run(made[task], f"{tmp_path}/in.csv", tmp_path / "out.csv")
    table = pd.read_csv(tmp_path / "out.csv", dtype=str)
    given = pd.read_csv(tmp_path / "in.csv", dtype=str)
    pd.testing.assert_frame_equal(table[list(given)], given)
    table = pd.read_csv(tmp_path / "out.csv", dtype={"id": str}, float_precision="round_trip")
    agrees(task, made[task], table, frame)


def test_values_of_any_type_are_read_without_loss(made, tmp_path):
    gaps = [np.nan if n == 3 else n for n in range(40)]
    sums = pa.array(gaps, from_pandas=True).cast(pa.decimal128(21, 2))
    for column, values, plain in (
        ("age", pa.array(range(40)).cast(pa.int8()), np.arange(40.0)),
        ("sum", sums, gaps),
        ("sum", pa.array([*["NA"] * 20, *[" 2.5 "] * 20]), [*[np.nan] * 20, *[2.5] * 20]),
        ("colour", pa.array(["red", None] * 20).dictionary_encode(), ["red", ""] * 20),
        ("age", pa.nulls(40), np.nan),
        ("colour", pa.nulls(40), ""),
    ):
        frame = people(40, seed=5)
        table = pa.Table.from_pandas(frame, preserve_index=False)
        table = table.set_column(table.column_names.index(column), column, values)
        pq.write_table(table, tmp_path / "in.parquet")
        table = scored(made["binary"], f"{tmp_path}/in.parquet")
        agrees("binary", made["binary"], table, frame.assign(**{column: plain}))


def test_rows_that_are_refused_have_the_reason_and_no_outputs(made, small, tmp_path):
    frame = people(250, seed=6).astype({"sum": object, "age": str})
    frame["sum"] = frame["sum"].map(str)
    frame.loc[[7, 107, 108], "sum"] = "1e39", "-inf", "1e5_0"
    table = pa.Table.from_pandas(frame, preserve_index=False)
    texts = [text.encode() for text in frame["colour"]]
    texts[200] = b"\xff\xfe"
    table = table.set_column(2, "colour", pa.array(texts).view(pa.string()))
    pq.write_table(table, tmp_path / "in.parquet")
    result = batch.run(made["binary"], f"{tmp_path}/in.parquet", tmp_path / "out.parquet")
    assert (result.rows, result.refused) == (246, 4)
    table = pq.read_table(tmp_path / "out.parquet").drop_columns("colour").to_pandas()
    refused = table[table["refused"].notna()]
    assert refused["refused"].to_dict() == {
        7: "column 'sum': found '1e39', expected a float32",
        107: "column 'sum': found '-inf', expected a float32",
        108: "column 'sum': found '1e5_0', expected a number",
        200: "column 'colour': found bytes, expected a string in UTF-8",
    }
    assert refused[["probability", "decision"]].isna().all(axis=None)
    good = people(250, seed=6).drop(index=refused.index)
    np.testing.assert_array_equal(
        table["probability"].drop(index=refused.index),
        bundle.Scorer(made["binary"]).predict(good),
    )


WRONG = {
    "none.parquet": (None, "no table 'none.parquet'"),
    "torn.parquet": (b"PAR1 PAR1", "can't be read: "),
    "less.parquet": ({"age": None}, "column 'age': missing; did you mean 'ages'?"),
    "three.parquet": ({"colour": 3}, "column 'colour': found int64, expected strings"),
    "taken.parquet": ({"probability": 1.0}, "column 'probability': found in the input"),
    "none-left.parquet": ({"refused": ""}, "column 'refused': found in the input"),
}


@pytest.mark.parametrize("name", WRONG)
def test_an_input_that_cannot_be_scored_is_named_in_one_line(made, tmp_path, name):
    content, message = WRONG[name]
    if isinstance(content, bytes):
        (tmp_path / name).write_bytes(content)
    elif content:
        parquet(people(5).assign(ages=1, **content).dropna(axis=1, how="all"), tmp_path / name)
    with pytest.raises(UserError) as error:
        batch.run(made["binary"], f"{tmp_path}/{name}", tmp_path / "out.parquet")
    assert str(tmp_path) in str(error.value)
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert [path.name for path in tmp_path.iterdir() if "out" in path.name] == []


def test_an_output_that_cannot_be_written_is_left_as_it_is(made, tmp_path):
    given = parquet(people(5).assign(tags=[["a"]] * 5), tmp_path / "in.parquet")
    (tmp_path / "out.parquet").write_text("precious")
    for output, message in (
        ("out.parquet", "expected a new name or --replace"),
        ("out.csv", "can't hold this: Unsupported Type"),
        ("out", r"expected a name that ends in \.parquet or \.csv"),
    ):
        with pytest.raises(UserError, match=message):
            batch.run(made["binary"], given, tmp_path / output)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.parquet", "out.parquet"]
    assert (tmp_path / "out.parquet").read_text() == "precious"
    batch.run(made["binary"], given, tmp_path / "out.parquet", replace=True)
    described = {b"model": b"people", b"bundle": bundle.digest(made["binary"]).encode()}
    assert described.items() <= pq.read_schema(tmp_path / "out.parquet").metadata.items()


def started(folder, given, out, *more):
    command = [Path(sys.executable).parent / "mlops", "score", folder, *more]
    return subprocess.Popen(
        [*map(str, command), "--input", str(given), "--output", str(out)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def test_the_command_says_what_it_did_in_a_line(made, tmp_path):
    parquet(people(5), tmp_path / "in.parquet")
    process = started(made["binary"], tmp_path / "in.parquet", tmp_path / "out.parquet")
    out, err = process.communicate(timeout=60)
    assert out.startswith(f"bundle {bundle.digest(made['binary'])[:12]}: 5 rows scored: ")
    assert (out.count("\n"), err, process.returncode) == (1, "", 0)


@pytest.mark.nightly
def test_a_run_that_is_killed_leaves_the_earlier_output_and_can_be_repeated(made, tmp_path):
    given = parquet(people(300_000), tmp_path / "in.parquet", row_group_size=100_000)
    whole, out = tmp_path / "whole.parquet", tmp_path / "out.parquet"
    batch.run(made["binary"], given, whole)
    out.write_text("earlier")
    process = started(made["binary"], given, out, "--replace")
    partial = tmp_path / ".out.parquet.part"
    while process.poll() is None and not (partial.exists() and partial.stat().st_size):
        time.sleep(0.01)
    process.kill()
    process.communicate()
    assert process.returncode == -9
    assert out.read_text() == "earlier"
    batch.run(made["binary"], given, out, replace=True)
    assert out.read_bytes() == whole.read_bytes()
    assert not list(tmp_path.glob(".*"))


def test_rows_are_read_no_faster_than_they_are_scored(made, small):
    """So that memory does not grow with them."""
    read, threads = [], len(os.sched_getaffinity(0))

    def batches():
        for number in range(20 * threads):
            read.append(number)
            yield pa.RecordBatch.from_pandas(people(100, number), preserve_index=False)

    loaded = model.load(made["binary"])
    for written, (table, refused) in enumerate(batch.scored(batches(), loaded, "rows")):
        assert (len(table), refused) == (100, 0)
        assert len(read) - written <= 2 * threads + 2
    assert written == 20 * threads - 1


def test_a_table_of_which_no_row_is_scored_is_refused(made, tmp_path):
    people(3).assign(age="12,5").to_csv(tmp_path / "in.csv", index=False)
    arguments = ["--input", f"{tmp_path}/in.csv", "--output", f"{tmp_path}/out.csv"]
    with pytest.raises(Refused, match=r"0 rows scored, 3 refused"):
        batch.main([str(made["binary"]), *arguments])


def test_a_source_that_is_not_there_is_said_of_the_option(made, tmp_path):
    for kind, place, message in (
        ("fils", "x.csv", "--source: found 'fils'; did you mean 'files'?"),
        ("files", f"{tmp_path}/no/x.csv", f"--input: found '{tmp_path}/no', no such folder"),
    ):
        with pytest.raises(UserError) as error:
            batch.run(made["binary"], place, tmp_path / "out.csv", kind=kind)
        assert str(error.value).startswith(message)


def test_files_of_other_types_are_refused_in_one_line(made, tmp_path):
    for name, key in (("a", 1), ("b", "one")):
        parquet(people(5).assign(id=key), tmp_path / f"in/{name}.parquet")
    with pytest.raises(UserError, match="can't hold this: Table schema does not match") as error:
        batch.run(made["binary"], f"{tmp_path}/in/", tmp_path / "out.parquet")
    assert "\n" not in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == ["in"]
