"""Scoring whole tables: every row once, in order, in bounded memory, after any interruption."""

import gzip
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mlops.base.errors import Refused, UserError
from mlops.base.files import folder_digests
from mlops.contract import bundle
from mlops.serving import batch
from mlops.serving.batch import source
from mlops.serving.batch.output import Work, locked
from tests.mlops.serving import bundles

FAMILY = {"binary": "lightgbm", "multiclass": "linear", "regression": "xgboost"}
PREDICTED = {
    "binary": ["probability", "decision"],
    "multiclass": ["probability_0", "probability_1", "probability_2", "class"],
    "regression": ["prediction"],
}
TASKS = list(FAMILY)
WORDS = ("red", "green", "blue", "")

# Each makes tables of its own, and scores them whole.
pytestmark = pytest.mark.slow


def people(rows, seed=0):
    """A table with a key, two numbers (one of them with gaps), a word, and a day."""
    dice = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "id": [f"{number:07}" for number in range(rows)],
            "age": dice.normal(40, 15, rows).astype(np.float32),
            "colour": dice.choice(WORDS, rows),
            "sum": dice.normal(0, 1e4, rows),
            # In microseconds, as Spark has them too.
            "day": pd.date_range("2020-01-01", periods=rows, freq="min", unit="us"),
        }
    )
    frame.loc[dice.random(rows) < 0.1, "age"] = np.nan
    return frame


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A small real bundle for each task."""
    base = tmp_path_factory.mktemp("bundles")
    return {task: make(task, base / task) for task in TASKS}


def make(task, folder):
    frame = people(600)[["age", "colour", "sum"]]
    frame["sum"] = frame["sum"].astype(np.float32)
    card = bundles.card(frame, FAMILY[task], task) | {"name": "people"}
    card["threshold"] = 0.3 if task == "binary" else None
    return bundles.write(folder, bundles.exported(FAMILY[task], task, frame), card, frame)


@pytest.fixture
def small(monkeypatch):
    """Pieces of a hundred rows, so that a small table has many."""
    monkeypatch.setattr(source, "ROWS", 100)


def expected(folder, frame):
    return bundle.Scorer(folder).predict(frame)


def agrees(task, folder, table, frame):
    """Whether a scored table says what the bundle says of the frame, in its order."""
    scores = expected(folder, frame)
    names = PREDICTED[task]
    if task == "multiclass":
        np.testing.assert_array_equal(table[names[:3]].to_numpy(), scores)
        np.testing.assert_array_equal(table["class"].to_numpy(), scores.argmax(axis=1))
    else:
        np.testing.assert_array_equal(table[names[0]].to_numpy(), scores)
    if task == "binary":
        np.testing.assert_array_equal(table["decision"].to_numpy(), scores >= 0.3)
    assert list(table) == [*frame, *names]
    assert table["id"].tolist() == frame["id"].tolist()


def parquet(frame, path, **options):
    frame.to_parquet(path, index=False, **options)
    return path


@pytest.mark.parametrize("task", TASKS)
def test_parquet_is_scored_as_the_bundle_scores_it_in_the_same_order(made, small, task, tmp_path):
    frame = people(1234, seed=1)
    parquet(frame, tmp_path / "in.parquet", row_group_size=130)
    receipt = batch.run(made[task], str(tmp_path / "in.parquet"), tmp_path / "out")
    agrees(task, made[task], pd.read_parquet(tmp_path / "out"), frame)
    assert (receipt.rows, receipt.refused) == (1234, 0)
    assert len(list((tmp_path / "out").iterdir())) == 13


@pytest.mark.parametrize("task", TASKS)
def test_csv_is_scored_as_the_bundle_scores_it_and_stays_as_it_was(made, small, task, tmp_path):
    frame = people(345, seed=2)
    frame.to_csv(tmp_path / "in.csv", index=False, na_rep="NA")
    batch.run(made[task], str(tmp_path / "in.csv"), tmp_path / "out.csv")
    table = pd.read_csv(tmp_path / "out.csv", dtype=str, keep_default_na=False)
    given = pd.read_csv(tmp_path / "in.csv", dtype=str, keep_default_na=False)
    pd.testing.assert_frame_equal(table[list(given)], given)
    read = pd.read_csv(tmp_path / "in.csv", dtype={"id": str}, float_precision="round_trip")
    scored = pd.read_csv(tmp_path / "out.csv", dtype={"id": str}, float_precision="round_trip")
    agrees(task, made[task], scored, read)


def test_a_table_of_a_database_is_scored_in_its_order(made, small, tmp_path):
    frame = people(512, seed=3)
    with duckdb.connect(str(tmp_path / "ware.duckdb")) as connection:
        connection.execute("create table people as select * from frame")
    batch.run(made["binary"], f"{tmp_path / 'ware.duckdb'}:people", tmp_path / "out")
    agrees("binary", made["binary"], pd.read_parquet(tmp_path / "out"), frame)


def test_files_of_a_folder_or_a_pattern_are_scored_one_after_the_other(made, small, tmp_path):
    frame = people(420, seed=4)
    (tmp_path / "in").mkdir()
    for number, start in enumerate(range(0, 420, 140)):
        parquet(frame[start : start + 140], tmp_path / f"in/{number}.parquet")
    (tmp_path / "in/_SUCCESS").touch()
    batch.run(made["binary"], str(tmp_path / "in"), tmp_path / "folder")
    batch.run(made["binary"], str(tmp_path / "in/?.parquet"), tmp_path / "pattern")
    agrees("binary", made["binary"], pd.read_parquet(tmp_path / "folder"), frame)
    assert folder_digests(tmp_path / "folder") == folder_digests(tmp_path / "pattern")


def test_the_names_of_folders_give_columns(made, tmp_path):
    frame = people(50).drop(columns="colour")
    for colour in ("red", "blue"):
        place = tmp_path / f"in/colour={colour}"
        place.mkdir(parents=True)
        parquet(frame, place / "a.parquet")
    batch.run(made["binary"], str(tmp_path / "in"), tmp_path / "out")
    table = pd.read_parquet(tmp_path / "out")
    assert table["colour"].tolist() == ["blue"] * 50 + ["red"] * 50
    np.testing.assert_array_equal(table["probability"], expected(made["binary"], table))


def test_a_compressed_csv_is_read(made, tmp_path):
    frame = people(20)
    with gzip.open(tmp_path / "in.csv.gz", "wt") as file:
        frame.to_csv(file, index=False)
    batch.run(made["binary"], str(tmp_path / "in.csv.gz"), tmp_path / "out")
    assert len(pd.read_parquet(tmp_path / "out")) == 20


def test_each_file_says_which_bundle_made_it(made, tmp_path):
    batch.run(made["binary"], str(parquet(people(9), tmp_path / "a.parquet")), tmp_path / "out")
    (part,) = (tmp_path / "out").iterdir()
    metadata = pq.read_schema(part).metadata
    assert metadata[b"bundle"].decode() == bundle.digest(made["binary"])
    assert metadata[b"model"] == b"people"
    assert json.loads((tmp_path / "out.json").read_text())["bundle"] == bundle.digest(
        made["binary"]
    )


def test_no_rows_give_an_output_with_its_columns(made, tmp_path):
    for ending in ("parquet", "csv"):
        frame = people(0)
        path = tmp_path / f"in.{ending}"
        frame.to_csv(path, index=False) if ending == "csv" else frame.to_parquet(path)
        batch.run(made["binary"], str(path), tmp_path / f"out-{ending}")
        table = pd.read_parquet(tmp_path / f"out-{ending}")
        assert (len(table), list(table)[-2:]) == (0, PREDICTED["binary"])


def test_numbers_of_any_type_and_words_as_codes_are_read_without_loss(made, tmp_path):
    frame = people(40, seed=5)
    table = pa.Table.from_pandas(frame, preserve_index=False)
    ages = pa.array(np.arange(40)).cast(pa.int8())
    sums = pa.array([None if n == 3 else n for n in range(40)]).cast(pa.decimal128(21, 2))
    table = table.set_column(1, "age", ages)
    table = table.set_column(2, "colour", table["colour"].dictionary_encode())
    table = table.set_column(3, "sum", sums)
    pq.write_table(table, tmp_path / "in.parquet")
    batch.run(made["binary"], str(tmp_path / "in.parquet"), tmp_path / "out")
    plain = frame.assign(age=np.arange(40.0), sum=[np.nan if n == 3 else n for n in range(40)])
    np.testing.assert_array_equal(
        pd.read_parquet(tmp_path / "out")["probability"], expected(made["binary"], plain)
    )


def test_a_column_with_nothing_in_it_is_scored_as_missing(made, tmp_path):
    frame = people(30)
    table = pa.Table.from_pandas(frame, preserve_index=False)
    for place, name in ((1, "age"), (2, "colour")):
        table = table.set_column(place, name, pa.nulls(30))
    pq.write_table(table, tmp_path / "in.parquet")
    batch.run(made["binary"], str(tmp_path / "in.parquet"), tmp_path / "out")
    plain = frame.assign(age=np.nan, colour="")
    np.testing.assert_array_equal(
        pd.read_parquet(tmp_path / "out")["probability"], expected(made["binary"], plain)
    )


def test_rows_that_are_refused_lie_beside_the_output_with_the_reason(made, small, tmp_path):
    frame = people(250, seed=6)
    frame.loc[7, "sum"] = 1e39
    frame.loc[107, "sum"] = -np.inf
    parquet(frame, tmp_path / "in.parquet")
    receipt = batch.run(made["binary"], str(tmp_path / "in.parquet"), tmp_path / "out")
    assert (receipt.rows, receipt.refused) == (248, 2)
    rejected = pd.read_parquet(tmp_path / "out.rejected.parquet")
    assert rejected["row"].tolist() == [7, 107]
    assert rejected["file"].tolist() == [str(tmp_path / "in.parquet")] * 2
    assert rejected["reason"].tolist() == [
        "column 'sum': found 1e+39, expected a float32",
        "column 'sum': found -inf, expected a float32",
    ]
    assert rejected["id"].tolist() == ["0000007", "0000107"]
    agrees(
        "binary", made["binary"], pd.read_parquet(tmp_path / "out"),
        frame.drop(index=[7, 107]).reset_index(drop=True),
    )  # fmt: skip


def test_lines_that_cannot_be_read_are_refused_and_counted_as_the_file_has_them(
    made, small, tmp_path
):
    lines = ["id,age,colour,sum", *(f"{n},{n % 90},red,{n}" for n in range(320))]
    lines[1 + 3] = "3,old,red,3"
    lines[1 + 99] = "99,1,red"
    lines[1 + 100] = "100,1,red,1,2"
    lines[1 + 101] = "101,1e5_0,red,0x1"
    lines[1 + 319] = "319"
    (tmp_path / "in.csv").write_text("\n".join(lines))
    receipt = batch.run(made["binary"], str(tmp_path / "in.csv"), tmp_path / "out.csv")
    rejected = pd.read_parquet(tmp_path / "out.csv.rejected.parquet")
    assert dict(zip(rejected["row"], rejected["reason"], strict=True)) == {
        3: "column 'age': found 'old', expected a number",
        99: "found 3 fields, expected 4",
        100: "found 5 fields, expected 4",
        101: "column 'age': found '1e5_0', expected a number",
        319: "found 1 fields, expected 4",
    }
    assert receipt.rows == 315
    kept = pd.read_csv(tmp_path / "out.csv")["id"].tolist()
    assert kept == [n for n in range(320) if n not in set(rejected["row"])]


def test_a_quoted_line_break_is_no_end_of_a_row(made, tmp_path):
    text = 'id,age,colour,sum\n"a\nb",1,red,2\n"c, ""d""",NA,,3\n'
    (tmp_path / "in.csv").write_text(text)
    batch.run(made["binary"], str(tmp_path / "in.csv"), tmp_path / "out.csv")
    table = pd.read_csv(tmp_path / "out.csv", float_precision="round_trip")
    assert table["id"].tolist() == ["a\nb", 'c, "d"']
    plain = pd.DataFrame({"age": [1, np.nan], "colour": ["red", ""], "sum": [2.0, 3.0]})
    np.testing.assert_array_equal(table["probability"], expected(made["binary"], plain))


def test_a_string_that_is_not_utf8_is_refused(made, tmp_path):
    words = pa.array([b"red", b"\xff\xfe"]).view(pa.string())
    table = pa.table({"age": [1.0, 2.0], "colour": words, "sum": [1.0, 2.0]})
    pq.write_table(table, tmp_path / "in.parquet")
    batch.run(made["binary"], str(tmp_path / "in.parquet"), tmp_path / "out")
    rejected = pq.read_table(tmp_path / "out.rejected.parquet", columns=["row", "reason"])
    assert rejected.to_pylist() == [
        {"row": 1, "reason": "column 'colour': found bytes, expected a string in UTF-8"}
    ]


def bad(tmp_path, name):
    """A bad input, as it is named on the command line."""
    frame, path, database = people(5), tmp_path / "in.parquet", tmp_path / "ware.duckdb"
    frames = {
        "missing column": frame.drop(columns="age").assign(ages=1),
        "wrong type": frame.assign(age="old"),
        "a word is a number": frame.assign(colour=3),
        "taken name": frame.assign(probability=1.0),
    }
    contents = {"no ending": ("in.txt", b"a"), "empty csv": ("in.csv", b""),
                "bytes in csv": ("in.csv", b"age,colour,sum\n1,\xff\xfe,2\n")}  # fmt: skip
    parquet(frames.get(name, frame), path)
    if name in contents:
        file, content = contents[name]
        (tmp_path / file).write_bytes(content)
        return str(tmp_path / file)
    if name == "torn":
        path.write_bytes(path.read_bytes()[:-20])
    if name in ("empty folder", "another column"):
        (tmp_path / "in").mkdir()
        if name == "another column":
            parquet(frame, tmp_path / "in/a.parquet")
            parquet(frame.assign(age="old"), tmp_path / "in/b.parquet")
        return str(tmp_path / "in")
    if name in ("no table", "no table named", "view"):
        with duckdb.connect(str(database)) as connection:
            if name == "view":
                connection.execute("create view people as select 1 as age")
        return str(database) if name == "no table named" else f"{database}:people"
    return str(tmp_path / "none.parquet") if name == "no file" else str(path)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no file", "none.parquet: not found"),
        ("no ending", "in.txt: found no file that ends in .parquet, .csv"),
        ("empty folder", "in: found no file that ends in"),
        ("empty csv", "in.csv: can't be read: Empty CSV file"),
        ("bytes in csv", "in.csv: can't be read: "),
        ("torn", "in.parquet: can't be read: "),
        ("missing column", "in.parquet: column 'age': missing; did you mean 'ages'?"),
        ("wrong type", "in.parquet: column 'age': found string, expected numbers"),
        ("a word is a number", "in.parquet: column 'colour': found int64, expected strings"),
        ("taken name", "in.parquet: column 'probability': found in the input"),
        ("another column", "b.parquet: column 'age': found string, expected float"),
        ("no table", "ware.duckdb:people: found no table 'people'"),
        ("no table named", "ware.duckdb: found a database, expected"),
        ("view", "ware.duckdb:people: found a view, expected a table"),
    ],
)
def test_an_input_that_cannot_be_scored_is_named_in_one_line(made, tmp_path, name, message):
    with pytest.raises(UserError) as error:
        batch.run(made["binary"], bad(tmp_path, name), tmp_path / "out/put")
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out/put").exists()


def test_what_no_scoring_wrote_is_not_replaced(made, tmp_path):
    given = str(parquet(people(5), tmp_path / "in.parquet"))
    (tmp_path / "out").mkdir()
    (tmp_path / "out/precious").touch()
    with pytest.raises(UserError, match="found something that no scoring wrote"):
        batch.run(made["binary"], given, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["in.parquet", "out", "precious"]


def test_an_output_without_a_name_is_refused(made, tmp_path):
    given = str(parquet(people(5), tmp_path / "in.parquet"))
    with pytest.raises(UserError, match=r"\.: expected the name of a file or a folder"):
        batch.run(made["binary"], given, Path("."))


def test_what_was_finished_is_not_scored_again_but_another_bundle_or_input_is(made, tmp_path):
    path = parquet(people(50), tmp_path / "in.parquet")
    out = tmp_path / "out"

    def run(task):
        batch.run(made[task], str(path), out)
        (part,) = out.iterdir()
        return part.stat().st_ino, pd.read_parquet(out)

    first, _ = run("binary")
    assert run("binary")[0] == first
    _, other = run("regression")
    assert "prediction" in other
    parquet(people(60), path)
    assert len(run("regression")[1]) == 60
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.parquet", "out", "out.json"]


def test_rejected_rows_of_an_earlier_input_do_not_stay(made, tmp_path):
    path = parquet(people(5).assign(sum=1e300), tmp_path / "in.parquet")
    batch.run(made["binary"], str(path), tmp_path / "out")
    assert (tmp_path / "out.rejected.parquet").exists()
    parquet(people(5), path)
    batch.run(made["binary"], str(path), tmp_path / "out")
    assert not (tmp_path / "out.rejected.parquet").exists()


def test_only_what_is_missing_is_done_after_a_failure(made, small, tmp_path, monkeypatch):
    parquet(people(1000), tmp_path / "in.parquet", row_group_size=130)
    given = str(tmp_path / "in.parquet")
    batch.run(made["binary"], given, tmp_path / "whole")
    real, calls = Work.score, itertools.count()

    def failing(*arguments):
        if next(calls) == 6:
            raise OSError(28, "No space left on device")
        real(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(Work, "score", failing)
        with pytest.raises(OSError, match="No space"):
            batch.run(made["binary"], given, tmp_path / "out", threads=1)
    assert not (tmp_path / "out").exists()
    (scored,) = tmp_path.glob(".out.work/*/scored")
    kept = {path.name: path.stat().st_ino for path in scored.iterdir()}
    assert 0 < len(kept) < 10
    batch.run(made["binary"], given, tmp_path / "out")
    again = {path.name: path.stat().st_ino for path in (tmp_path / "out").iterdir()}
    assert kept.items() <= again.items()
    assert folder_digests(tmp_path / "whole") == folder_digests(tmp_path / "out")


def test_two_that_write_the_same_output_exclude_each_other(made, tmp_path):
    given = str(parquet(people(5), tmp_path / "in.parquet"))
    with locked(tmp_path / "out"):
        with pytest.raises(Refused, match="out: another run writes it"):
            batch.run(made["binary"], given, tmp_path / "out")
        batch.run(made["binary"], given, tmp_path / "other")
    batch.run(made["binary"], given, tmp_path / "out")
    assert (tmp_path / "out").exists()


def test_an_input_that_changes_while_it_is_read_gives_no_output(made, tmp_path, monkeypatch):
    path = parquet(people(5), tmp_path / "in.parquet")
    real = Work.score

    def changing(*arguments):
        real(*arguments)
        os.utime(path, (1, 1))

    monkeypatch.setattr(Work, "score", changing)
    with pytest.raises(UserError, match="changed while it was read"):
        batch.run(made["binary"], str(path), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def started(folder, given, out, *more):
    command = [str(Path(sys.executable).parent / "mlops"), "score", str(folder)]
    return subprocess.Popen(
        [*command, "--input", str(given), "--output", str(out), *more],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def test_the_command_says_what_it_did_and_what_is_wrong_in_a_line(made, tmp_path):
    given = parquet(people(5), tmp_path / "in.parquet")
    done = started(made["binary"], given, tmp_path / "out")
    out, err = done.communicate(timeout=60)
    assert (done.returncode, err) == (0, "")
    assert out.startswith(f"bundle {bundle.digest(made['binary'])[:12]}: 5 rows scored: ")
    done = started(made["binary"], tmp_path / "none.csv", tmp_path / "out")
    out, err = done.communicate(timeout=60)
    assert (done.returncode, out, err.count("\n")) == (2, "", 1)


@pytest.mark.nightly
@pytest.mark.parametrize("ending", ["", ".csv"])
def test_a_run_that_is_killed_again_and_again_ends_with_the_same_bytes(made, tmp_path, ending):
    frame = people(600_000)
    frame.loc[::50_001, "sum"] = 1e300
    given = parquet(frame, tmp_path / "in.parquet", row_group_size=200_000)
    whole, out = tmp_path / f"whole{ending}", tmp_path / f"out{ending}"
    batch.run(made["binary"], str(given), whole)
    kills = 0
    while not out.exists():
        process = started(made["binary"], given, out)
        before = parts(out)
        while process.poll() is None and parts(out) <= before + 2:
            time.sleep(0.01)
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            kills += 1
        process.communicate()
    batch.run(made["binary"], str(given), out)
    assert kills > 2
    assert digests(out) == digests(whole)
    assert not list(tmp_path.glob(".*"))


def parts(out):
    """How many parts are there."""
    return len(list(out.parent.glob(f".{out.name}.work/*/scored/*")))


def digests(out):
    """The bytes of an output and of the rows that were refused."""
    files = [out, *out.glob("*"), out.with_name(f"{out.name}.rejected.parquet")]
    return {file.name.replace(out.stem, ""): file.read_bytes() for file in files if file.is_file()}


PEAK = """
import resource, sys
from pathlib import Path
from mlops.serving import batch
batch.run(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]), threads=2)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.nightly
@pytest.mark.parametrize("ending", ["parquet", "csv"])
def test_memory_does_not_grow_with_the_rows(made, tmp_path, ending):
    frame = people(400_000).drop(columns="day")

    def peak(times):
        path = tmp_path / f"{times}.{ending}"
        table = pd.concat([frame] * times, ignore_index=True)
        table.to_csv(path, index=False) if ending == "csv" else table.to_parquet(path, index=False)
        command = [sys.executable, "-c", PEAK, made["binary"], path, tmp_path / f"out-{times}"]
        return int(subprocess.run(command, capture_output=True, check=True).stdout)

    assert peak(5) < 1.25 * peak(1)


@pytest.fixture(scope="module")
def spark(tmp_path_factory):
    """Spark on this machine, on whose executors there is no pandas."""
    from mlops.data import engine

    none = tmp_path_factory.mktemp("none")
    (none / "pandas.py").write_text("raise ImportError('no pandas here')")
    options = f"--conf spark.executorEnv.PYTHONPATH={none} pyspark-shell"
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("PYSPARK_SUBMIT_ARGS", options)
        session = engine.start("spark")
    yield session
    session.stop()


@pytest.mark.nightly
@pytest.mark.spark
@pytest.mark.parametrize("task", TASKS)
def test_spark_says_what_one_machine_says_in_the_same_order(spark, made, task, tmp_path):
    frame = people(3000, seed=8)
    frame.loc[[5, 2900], "sum"] = 1e300
    (tmp_path / "in").mkdir()
    for number, (start, end) in enumerate([(0, 50), (50, 2800), (2800, 3000)]):
        parquet(frame[start:end], tmp_path / f"in/{number}.parquet", row_group_size=400)
    given = str(tmp_path / "in")
    one = batch.run(made[task], given, tmp_path / "one")
    many = batch.run(made[task], given, tmp_path / "many", engine="spark")
    kept = frame.drop(index=[5, 2900]).reset_index(drop=True)
    agrees(task, made[task], pd.read_parquet(tmp_path / "many"), kept)
    assert (one.rows, one.refused) == (many.rows, many.refused) == (2998, 2)
    rejected = [pd.read_parquet(tmp_path / f"{name}.rejected.parquet") for name in ("one", "many")]
    pd.testing.assert_frame_equal(*rejected, check_dtype=False)


@pytest.mark.nightly
@pytest.mark.spark
def test_spark_says_of_a_csv_what_one_machine_says(spark, made, tmp_path):
    lines = ["id,age,colour,sum", *(f"{n},{n % 90},red,{n}" for n in range(50)), '"a,\nb",NA,,7']
    lines[1 + 3] = "3,old,red,3"
    lines[1 + 9] = "9,1,red"
    (tmp_path / "in.csv").write_text("\n".join(lines) + "\n")
    batch.run(made["binary"], str(tmp_path / "in.csv"), tmp_path / "one.csv")
    batch.run(made["binary"], str(tmp_path / "in.csv"), tmp_path / "many.csv", engine="spark")
    one, many = (pd.read_csv(tmp_path / f"{name}.csv") for name in ("one", "many"))
    pd.testing.assert_frame_equal(one, many)
    assert one["id"].tolist()[-1] == "a,\nb"
    rejected = pd.read_parquet(tmp_path / "many.csv.rejected.parquet")
    assert rejected["row"].tolist() == [3, 9]
    assert rejected["reason"].tolist() == [
        "column 'age': found 'old', expected a number",
        "found 3 fields, expected 4",
    ]


@pytest.mark.nightly
@pytest.mark.spark
def test_a_table_of_spark_is_scored(spark, made, tmp_path):
    frame = people(40).drop(columns="day")
    frame.loc[3, "sum"] = 1e300
    spark.createDataFrame(frame).createOrReplaceTempView("people")
    receipt = batch.run(made["binary"], "people", tmp_path / "out", engine="spark")
    assert (receipt.rows, receipt.refused) == (39, 1)
    table = pd.read_parquet(tmp_path / "out").sort_values("id", ignore_index=True)
    agrees("binary", made["binary"], table, frame.drop(index=3).reset_index(drop=True))
    for name, message in (
        ("nobody", "nobody: can't be read"),
        ("in.duckdb:t", "in.duckdb: not fou"),
    ):
        with pytest.raises(UserError, match=message):
            batch.run(made["binary"], name, tmp_path / "none", engine="spark")


@pytest.mark.nightly
@pytest.mark.spark
def test_pieces_that_spark_finished_are_not_scored_again(spark, made, tmp_path, monkeypatch):
    frame = people(90)
    (tmp_path / "in").mkdir()
    for number in range(3):
        parquet(frame[number * 30 : number * 30 + 30], tmp_path / f"in/{number}.parquet")

    def failing(work):
        raise OSError(28, "No space left on device")

    given, out = str(tmp_path / "in"), tmp_path / "out"
    with monkeypatch.context() as patched:
        patched.setattr(Work, "finish", failing)
        with pytest.raises(OSError, match="No space"):
            batch.run(made["binary"], given, out, engine="spark")
    kept = {path.name: path.stat().st_ino for path in tmp_path.glob(".out.work/*/scored/*")}
    batch.run(made["binary"], given, out, engine="spark")
    assert {path.name: path.stat().st_ino for path in out.iterdir()} == kept
    agrees("binary", made["binary"], pd.read_parquet(out), frame)
