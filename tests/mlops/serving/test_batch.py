"""Scoring whole tables: every row once, in order, in bounded memory, after any interruption."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from unittest.mock import Mock

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mlops.base.errors import Refused, UserError
from mlops.base.files import folder_digests, read_json
from mlops.contract import bundle
from mlops.serving import batch
from mlops.serving.batch import source
from mlops.serving.batch.output import Work, locked
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
    # In microseconds, as Spark has them too.
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
    """Pieces of a hundred rows, so that a small table has many, read in two spans or more."""
    monkeypatch.setattr(source, "ROWS", 100)
    monkeypatch.setattr(source, "SPAN", 250)


def agrees(task, folder, table, frame):
    """Whether a scored table says what the bundle says of the frame, in its order."""
    scores, names = bundle.Scorer(folder).predict(frame), list(bundle.read_card(folder).outputs)
    decided = {"decision": scores >= 0.3} if task == "binary" else {}
    if task == "multiclass":
        decided = {"class": scores.argmax(axis=1)}
    np.testing.assert_array_equal(table[names].to_numpy().squeeze(), scores)
    for name, values in decided.items():
        np.testing.assert_array_equal(table[name], values)
    assert list(table) == [*frame, *names, *decided]
    assert table["id"].tolist() == frame["id"].tolist()


def rejected(out):
    """The refused rows' numbers and reasons."""
    table = pq.read_table(f"{out}.rejected.parquet", columns=["row", "reason"])
    return dict(zip(*table.to_pydict().values(), strict=True))


def inodes(parts):
    return {path.name: path.stat().st_ino for path in parts}


def parquet(frame, path, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    frame.to_parquet(path, index=False, **options)
    return str(path)


def written(frame, path, kind):
    """The name of an input of this kind that has the frame's rows."""
    if kind == "file":
        return parquet(frame, path / "in.parquet", row_group_size=130)
    if kind == "lines":
        (path / "in.csv").write_text(lines(320))
        return f"{path}/in.csv"
    if kind == "csv":
        frame.to_csv(path / "in.csv.gz", index=False)
        return f"{path}/in.csv.gz"
    if kind == "database":
        with duckdb.connect(f"{path}/ware.duckdb") as connection:
            connection.execute("create table people as select * from frame")
        return f"{path}/ware.duckdb:people"
    for start in range(0, len(frame), 140):
        parquet(frame[start : start + 140], path / f"in/{start:04}.parquet")
    (path / "in/_SUCCESS").touch()
    return f"{path}/in/?*.parquet" if kind == "pattern" else f"{path}/in"


@pytest.mark.parametrize("case", ["folder", "pattern", "database", "csv", *TASKS])
def test_rows_are_scored_as_the_bundle_scores_them_in_their_order(made, small, case, tmp_path):
    task, kind = (case, "file") if case in TASKS else ("binary", case)
    frame = people(1234, seed=1)
    receipt = batch.run(made[task], written(frame, tmp_path, kind), tmp_path / "out")
    agrees(task, made[task], pd.read_parquet(tmp_path / "out"), frame)
    assert (receipt.rows, receipt.refused) == (1234, 0)
    assert len(list((tmp_path / "out").iterdir())) >= 13


@pytest.mark.parametrize("task", TASKS)
def test_csv_stays_as_it_was(made, small, task, tmp_path):
    frame = people(345, seed=2)
    frame["id"] = [f'{n}, "a"\nb' for n in frame["id"]]
    frame.to_csv(tmp_path / "in.csv", index=False, na_rep="NA")
    batch.run(made[task], str(tmp_path / "in.csv"), tmp_path / "out.csv")
    table = pd.read_csv(tmp_path / "out.csv", dtype=str, keep_default_na=False)
    given = pd.read_csv(tmp_path / "in.csv", dtype=str, keep_default_na=False)
    pd.testing.assert_frame_equal(table[list(given)], given)
    scored = pd.read_csv(tmp_path / "out.csv", dtype={"id": str}, float_precision="round_trip")
    agrees(task, made[task], scored, frame)


def test_the_names_of_folders_give_columns(made, tmp_path):
    frame = people(50).drop(columns="colour")
    for colour in ("red", "blue"):
        parquet(frame, tmp_path / f"in/colour={colour}/a.parquet")
    batch.run(made["binary"], str(tmp_path / "in"), tmp_path / "out")
    both = pd.concat([frame.assign(colour=colour) for colour in ("blue", "red")])
    agrees("binary", made["binary"], pd.read_parquet(tmp_path / "out"), both)


def test_no_rows_give_an_output_with_its_columns(made, tmp_path):
    parquet(people(0), tmp_path / "in.parquet")
    people(0).to_csv(tmp_path / "in.csv", index=False)
    for name in ("in.parquet", "in.csv"):
        batch.run(made["binary"], str(tmp_path / name), tmp_path / "out")
        table = pd.read_parquet(tmp_path / "out")
        assert (len(table), list(table)[-2:]) == (0, ["probability", "decision"])


def test_values_of_any_type_are_read_without_loss(made, tmp_path):
    gaps = [np.nan if n == 3 else n for n in range(40)]
    sums = pa.array(gaps, from_pandas=True).cast(pa.decimal128(21, 2))
    for column, values, plain in (
        ("age", pa.array(range(40)).cast(pa.int8()), np.arange(40.0)),
        ("sum", sums, gaps),
        ("colour", pa.array(["red", None] * 20).dictionary_encode(), ["red", ""] * 20),
        ("age", pa.nulls(40), np.nan),
        ("colour", pa.nulls(40), ""),
    ):
        frame = people(40, seed=5)
        table = pa.Table.from_pandas(frame, preserve_index=False)
        table = table.set_column(table.column_names.index(column), column, values)
        pq.write_table(table, tmp_path / "in.parquet")
        batch.run(made["binary"], str(tmp_path / "in.parquet"), tmp_path / "out")
        scored = pd.read_parquet(tmp_path / "out")
        agrees("binary", made["binary"], scored, frame.assign(**{column: plain}))


def test_rows_that_are_refused_lie_beside_the_output_with_the_reason(made, small, tmp_path):
    frame = people(250, seed=6)
    frame.loc[[7, 107], "sum"] = 1e39, -np.inf
    table = pa.Table.from_pandas(frame, preserve_index=False)
    words = [word.encode() for word in frame["colour"]]
    words[200] = b"\xff\xfe"
    table = table.set_column(2, "colour", pa.array(words).view(pa.string()))
    pq.write_table(table, tmp_path / "in.parquet")
    receipt = batch.run(made["binary"], str(tmp_path / "in.parquet"), tmp_path / "out")
    assert (receipt.rows, receipt.refused) == (247, 3)
    assert rejected(tmp_path / "out") == {
        7: "column 'sum': found 1e+39, expected a float32",
        107: "column 'sum': found -inf, expected a float32",
        200: "column 'colour': found bytes, expected a string in UTF-8",
    }
    refused = pq.read_table(tmp_path / "out.rejected.parquet", columns=["file", "id"])
    assert refused[1].to_pylist() == ["0000007", "0000107", "0000200"]
    assert refused[0].to_pylist() == [str(tmp_path / "in.parquet")] * 3
    kept = frame.drop(index=[7, 107, 200]).reset_index(drop=True)
    agrees("binary", made["binary"], pd.read_parquet(tmp_path / "out"), kept)


LINES = {
    3: ("3,old,red,3", "column 'age': found 'old', expected a number"),
    9: ("9,1,red", "found 3 fields, expected 4"),
    10: ("10,1,red,1,2", "found 5 fields, expected 4"),
    11: ("11,1e5_0,red,0x1", "column 'age': found '1e5_0', expected a number"),
}


def lines(rows):
    """A CSV file of so many rows; these ones, and the last one, can't be scored."""
    good = {number: (f"{number},{number % 90},red,{number}",) for number in range(rows - 1)}
    return "\n".join(["id,age,colour,sum", *(line for line, *_ in (good | LINES).values()), "x"])


# The last piece has fewer rows than others, and as many.
@pytest.mark.parametrize("rows", [320, 203])
def test_lines_that_cannot_be_read_are_refused_with_their_numbers(made, small, tmp_path, rows):
    (tmp_path / "in.csv").write_text(lines(rows))
    batch.run(made["binary"], str(tmp_path / "in.csv"), tmp_path / "out.csv")
    refused = rejected(tmp_path / "out.csv")
    reasons = {number: reason for number, (_, reason) in LINES.items()}
    assert refused == reasons | {rows - 1: "found 1 fields, expected 4"}
    kept = pd.read_csv(tmp_path / "out.csv")["id"].tolist()
    assert kept == [n for n in range(rows) if n not in refused]


WRONG = {
    "none.parquet": (None, "not found"),
    "empty": (None, "found no file that ends in"),
    "in.txt": (b"a", "found no file that ends in .parquet, .csv"),
    "empty.csv": (b"", "can't be read: Empty CSV file"),
    "bytes.csv": (b"age,colour,sum\n1,\xff\xfe,2\n", "can't be read: "),
    "parted.csv": (
        b"age;colour;sum\n1;a;2\n",
        "found one column 'age;colour;sum', expected columns with commas between them",
    ),
    "twice.csv": (b"age,age,colour,sum\n", "column 'age': found twice"),
    "torn.parquet": (b"PAR1 PAR1", "can't be read: "),
    "less.parquet": ({"age": None}, "column 'age': missing; did you mean 'ages'?"),
    "old.parquet": ({"age": "old"}, "column 'age': found string, expected numbers"),
    "three.parquet": ({"colour": 3}, "column 'colour': found int64, expected strings"),
    "taken.parquet": ({"probability": 1.0}, "column 'probability': found in the input"),
    "in/b.parquet": ({"age": "old"}, "column 'age': found string, expected float"),
    "ware.duckdb:peple": (None, "found no table 'peple'; did you mean 'people'?"),
    "ware.duckdb": (None, "found a database, expected"),
    "ware.duckdb:people": (None, "found a view, expected a table"),
}


@pytest.mark.parametrize("name", WRONG)
def test_an_input_that_cannot_be_scored_is_named_in_one_line(made, tmp_path, name):
    content, message = WRONG[name]
    if isinstance(content, bytes):
        (tmp_path / name).write_bytes(content)
    elif content:
        frame = people(5).assign(ages=1, **content).dropna(axis=1, how="all")
        parquet(frame, tmp_path / name)
    parquet(people(5).assign(ages=1), tmp_path / "in/a.parquet")
    (tmp_path / "empty").mkdir()
    with duckdb.connect(f"{tmp_path}/ware.duckdb") as connection:
        connection.execute("create view people as select 1 as age")
    with pytest.raises(UserError) as error:
        batch.run(made["binary"], f"{tmp_path}/{name}".replace("/b.parquet", ""), tmp_path / "out")
    assert str(error.value).startswith(f"{tmp_path}/{name}: {message}")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()


def test_an_output_that_cannot_be_written_is_left_as_it_is(made, tmp_path):
    given = parquet(people(5).assign(tags=[["a"]] * 5), tmp_path / "in.parquet")
    (tmp_path / "out").mkdir()
    (tmp_path / "out/precious").touch()
    for output, message in (
        (tmp_path / "out", "found something that no scoring wrote"),
        (tmp_path / "out.csv", "CSV can't hold this: Unsupported Type"),
        (Path("."), r"\.: expected the name of a file or a folder"),
    ):
        with pytest.raises(UserError, match=message):
            batch.run(made["binary"], given, output)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["in.parquet", "out", "precious"]


def test_what_was_finished_is_not_scored_again_but_another_bundle_or_input_is(made, tmp_path):
    path, out = tmp_path / "in.parquet", tmp_path / "out"
    parquet(people(50).assign(sum=[1e300, *range(49)]), path)

    def run(task):
        batch.run(made[task], str(path), out)
        (part,) = out.iterdir()
        described = {b"model": b"people", b"bundle": bundle.digest(made[task]).encode()}
        assert described.items() <= pq.read_schema(part).metadata.items()
        assert read_json(tmp_path / "out.json")["bundle"] == bundle.digest(made[task])
        return part.stat().st_ino

    first = run("binary")
    assert run("binary") == first
    run("regression")
    assert "prediction" in pd.read_parquet(out)
    assert list(rejected(out)) == [0]
    parquet(people(60), path)
    run("regression")
    assert len(pd.read_parquet(out)) == 60
    # Nor do rejected rows of the earlier input stay.
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.parquet", "out", "out.json"]


@pytest.mark.parametrize("output", ["out", "out.csv"])
def test_a_finished_output_is_compared_with_its_receipt(made, small, tmp_path, output):
    name, out = written(people(320), tmp_path, "file"), tmp_path / output
    batch.run(made["binary"], name, out)
    part = out if output == "out.csv" else max(out.iterdir())
    part.write_bytes(part.read_bytes()[:-7])
    with pytest.raises(UserError, match=rf"{part}: found \d+, expected \d+ bytes as in .*json"):
        batch.run(made["binary"], name, out)
    if output == "out":
        part.unlink()
        with pytest.raises(UserError, match=f"{part}: found no file, expected"):
            batch.run(made["binary"], name, out)


def test_only_what_is_missing_is_done_after_a_failure(made, small, tmp_path, monkeypatch):
    given = parquet(people(1000), tmp_path / "in.parquet", row_group_size=130)
    batch.run(made["binary"], given, tmp_path / "whole")
    real = Work.score

    def failing(work, model, piece):
        if piece.rows[0] == 520:
            raise OSError(28, "No space left on device")
        real(work, model, piece)

    with monkeypatch.context() as patched:
        patched.setattr(Work, "score", failing)
        with pytest.raises(OSError, match="No space"):
            batch.run(made["binary"], given, tmp_path / "out", threads=1)
    kept = inodes(tmp_path.glob(".out.work/*/scored/*"))
    assert 0 < len(kept) < 10
    assert not (tmp_path / "out").exists()
    batch.run(made["binary"], given, tmp_path / "out")
    assert kept.items() <= inodes((tmp_path / "out").iterdir()).items()
    assert folder_digests(tmp_path / "whole") == folder_digests(tmp_path / "out")


def test_a_run_is_refused_beside_another_and_where_its_input_changes(made, tmp_path, monkeypatch):
    given, out = parquet(people(5), tmp_path / "in.parquet"), tmp_path / "out"
    with locked(out):
        with pytest.raises(Refused, match="out: another run writes it"):
            batch.run(made["binary"], given, out)
        batch.run(made["binary"], given, tmp_path / "other")
    monkeypatch.setattr(Work, "score", lambda *arguments: os.utime(given, (1, 1)))
    with pytest.raises(UserError, match="changed while it was read"):
        batch.run(made["binary"], given, out)
    assert not out.exists()


def test_a_table_of_which_no_row_is_scored_is_refused_by_the_command(made, tmp_path):
    people(3).assign(age="12,5").to_csv(tmp_path / "in.csv", index=False)
    arguments = ["--input", str(tmp_path / "in.csv"), "--output", str(tmp_path / "out")]
    with pytest.raises(Refused, match=r"0 rows scored, 3 refused \(reasons in .*rejected.parquet"):
        batch.main([str(made["binary"]), *arguments])
    assert set(rejected(tmp_path / "out").values()) == {
        "column 'age': found '12,5', expected a number"
    }


def started(folder, given, out):
    command = [Path(sys.executable).parent / "mlops", "score", folder]
    return subprocess.Popen(
        [*map(str, command), "--input", str(given), "--output", str(out)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def test_the_command_says_what_it_did_and_what_is_wrong_in_a_line(made, tmp_path):
    parquet(people(5), tmp_path / "in.parquet")
    said = []
    for name in ("in.parquet", "none.csv"):
        process = started(made["binary"], tmp_path / name, tmp_path / "out")
        said.append((*process.communicate(timeout=60), process.returncode))
    (out, *good), (nothing, err, code) = said
    assert out.startswith(f"bundle {bundle.digest(made['binary'])[:12]}: 5 rows scored: ")
    assert (good, nothing, err.count("\n"), code) == (["", 0], "", 1, 2)


@pytest.mark.nightly
@pytest.mark.parametrize("ending", ["", ".csv"])
def test_a_run_that_is_killed_again_and_again_ends_with_the_same_bytes(made, tmp_path, ending):
    frame = people(600_000)
    frame.loc[::50_001, "sum"] = 1e300
    given = parquet(frame, tmp_path / "in.parquet", row_group_size=200_000)
    whole, out = tmp_path / f"whole{ending}", tmp_path / f"out{ending}"
    batch.run(made["binary"], given, whole)

    def parts():
        return len(list(tmp_path.glob(f".{out.name}.work/*/scored/*")))

    kills = 0
    while not out.exists():
        process, before = started(made["binary"], given, out), parts()
        while process.poll() is None and parts() <= before + 2:
            time.sleep(0.01)
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            kills += 1
        process.communicate()
    batch.run(made["binary"], given, out)
    assert kills > 2
    assert rejected(out) == rejected(whole)
    one, other = (sorted(path.glob("*")) or [path] for path in (out, whole))
    assert list(map(Path.read_bytes, one)) == list(map(Path.read_bytes, other))
    assert not list(tmp_path.glob(".*"))


# Linux counts the memory of a process's parent too, but for this figure.
PEAK = """import sys
from mlops.serving import batch
batch.main(sys.argv[1:])
print(open("/proc/self/status").read().split("VmHWM:")[1].split()[0])"""


@pytest.mark.nightly
@pytest.mark.parametrize("ending", ["parquet", "csv"])
def test_memory_does_not_grow_with_the_rows(made, tmp_path, ending):
    frame = people(400_000).drop(columns="day")

    def peak(times):
        path, out = tmp_path / f"{times}.{ending}", tmp_path / f"out-{times}"
        table = pd.concat([frame] * times, ignore_index=True)
        table.to_csv(path, index=False) if ending == "csv" else parquet(table, path)
        command = [sys.executable, "-c", PEAK, made["binary"], "--input", path, "--output", out]
        return int(subprocess.run(command, capture_output=True, check=True).stdout.split()[-1])

    assert peak(5) < 1.25 * peak(2)


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
@pytest.mark.parametrize("kind", ["file", "folder", "lines"])
def test_spark_writes_what_one_machine_writes(spark, made, tmp_path, kind, monkeypatch):
    frame = people(3000, seed=8)
    frame.loc[[5, 2900], "sum"] = 1e300
    given, failing = written(frame, tmp_path, kind), Mock(side_effect=OSError(28, "No space"))
    one = batch.run(made["binary"], given, tmp_path / "one")
    with monkeypatch.context() as patched, pytest.raises(OSError, match="No space"):
        patched.setattr(Work, "finish", failing)
        batch.run(made["binary"], given, tmp_path / "many", engine="spark")
    kept = inodes(tmp_path.glob(".many.work/*/scored/*"))
    many = batch.run(made["binary"], given, tmp_path / "many", engine="spark")
    assert inodes((tmp_path / "many").iterdir()) == kept
    assert (one.rows, one.refused) == (many.rows, many.refused)
    assert folder_digests(tmp_path / "one") == folder_digests(tmp_path / "many")
    assert rejected(tmp_path / "one") == rejected(tmp_path / "many")


@pytest.mark.nightly
@pytest.mark.spark
def test_a_table_of_spark_is_scored(spark, made, tmp_path):
    frame = people(40)
    frame.loc[3, "sum"] = 1e300
    spark.createDataFrame(frame).createOrReplaceTempView("people")
    receipt = batch.run(made["binary"], "people", tmp_path / "out", engine="spark")
    assert (receipt.rows, receipt.refused) == (39, 1)
    table = pd.read_parquet(tmp_path / "out").sort_values("id", ignore_index=True)
    agrees("binary", made["binary"], table, frame.drop(index=3).reset_index(drop=True))
    spark.createDataFrame(frame.drop(columns="age")).createOrReplaceTempView("ageless")
    # What an executor finds.
    (tmp_path / "bytes.csv").write_bytes(WRONG["bytes.csv"][0])
    for name, message in (
        ("nobody", "nobody: can't be read"),
        ("ageless", "ageless: column 'age': missing"),
        ("in.duckdb:t", "in.duckdb: not fou"),
        (f"{tmp_path}/bytes.csv", "bytes.csv: can't be read: "),
    ):
        with pytest.raises(UserError, match=message):
            batch.run(made["binary"], name, tmp_path / "none", engine="spark")


def test_a_number_of_threads_below_zero_is_refused(tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        batch.main([str(tmp_path), "--input", "a", "--output", "b", "--threads", "-1"])
    assert ended.value.code == 2
    assert "--threads: found -1, expected 0 or more" in capsys.readouterr().err
