"""Raw tables are kept as Parquet, a file a month, up to the last day known."""

import pandas as pd
import pyarrow.parquet as pq
import pytest

from mlops.base.errors import UserError
from mlops.data import staging


@pytest.fixture
def workspace(repository, tmp_path):
    return repository("wine", tmp_path / "wine")


def months(workspace, table="wines"):
    return sorted(path.name for path in (workspace.root / "data/raw" / table).iterdir())


def rows(workspace, table="wines"):
    return pd.read_parquet(workspace.root / "data/raw" / table)


def test_a_table_with_days_is_a_file_a_month_and_another_one_file(workspace):
    workspace.run("ingest")
    assert months(workspace) == ["2021-03.parquet", "2021-04.parquet", "2021-05.parquet"]
    assert months(workspace, "shades") == ["all.parquet"]
    march = pd.read_parquet(workspace.root / "data/raw/wines/2021-03.parquet")
    assert march["day"].dt.strftime("%Y-%m").unique().tolist() == ["2021-03"]


def test_a_later_day_adds_files_and_leaves_the_earlier_ones_alone(workspace):
    workspace.change({"data.until": "2021-04-15"}).run("ingest")
    assert rows(workspace)["day"].max() == pd.Timestamp("2021-04-15")
    workspace.change({"data.until": "2021-04-30"}).run("ingest")
    folder = workspace.root / "data/raw/wines"
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    workspace.change({"data.until": "2021-05-28"}).run("ingest")
    after = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert set(after) - set(before) == {"2021-05.parquet"}
    assert {name: after[name] for name in before} == before


def test_every_row_up_to_the_last_day_is_kept_as_it_was(workspace):
    workspace.run("ingest")
    source = pd.read_csv(workspace.tables() / "wines.csv", parse_dates=["day"])
    kept = rows(workspace).sort_values("wine", ignore_index=True)
    pd.testing.assert_frame_equal(kept, source, check_dtype=False)


@pytest.fixture
def apart(workspace):
    """The wines, ingested and then taken away: their digest, their rows, an empty folder."""
    workspace.run("ingest")
    before = workspace.digest("data/raw/wines")
    rows = pd.read_csv(workspace.tables() / "wines.csv", parse_dates=["day"])
    (workspace.tables() / "wines.csv").unlink()
    (workspace.tables() / "wines").mkdir()
    return before, rows, workspace.tables() / "wines"


def test_raw_tables_are_the_same_bytes_in_whatever_order_and_batches_they_come(
    workspace, apart, monkeypatch
):
    before, rows, folder = apart
    rows = rows.sample(frac=1, random_state=5)
    for number in range(3):
        rows[number::3].to_csv(folder / f"{number}.csv", index=False)
    monkeypatch.setattr(staging, "ROWS", 7)
    workspace.run("ingest")
    assert workspace.digest("data/raw/wines") == before


def test_parquet_gives_the_same_bytes_though_files_hold_a_column_in_other_types(workspace, apart):
    before, rows, folder = apart
    for number, kinds in enumerate(({"grower": str}, {"grower": float}, {"hue": str})):
        rows[number::3].astype(kinds).to_parquet(folder / f"{number}.parquet", index=False)
    workspace.run("ingest")
    assert workspace.digest("data/raw/wines") == before


def test_rows_after_the_last_day_known_are_neither_kept_nor_checked(workspace):
    workspace.change({"data.until": "2021-04-15"}).run("ingest")
    before = workspace.digest("data/raw/wines")
    late = workspace.tables() / "wines.csv"
    late.write_text(f"{late.read_text()}x,2021-05-30,none,,,violet,9\n")
    workspace.run("ingest")
    assert workspace.digest("data/raw/wines") == before


def test_a_last_day_before_all_rows_of_parquet_names_the_days_that_there_are(workspace, apart):
    _, rows, folder = apart
    rows.to_parquet(folder / "all.parquet", index=False)
    with pytest.raises(UserError) as error:
        workspace.change({"data.until": "2020-12-31"}).run("ingest")
    assert str(error.value) == (
        "params.yaml: data.until: found 2020-12-31, expected a day that wines.day has: 2021-03-01 "
        "to 2021-05-28"
    )


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"data.copy": False}, "data: found .*, expected copy: true, or source: spark and engine:"),
        ({"data.versions": {"wine": 1}}, "data.versions: found 'wine'; did you mean 'wines'?"),
        ({"data.versions": {"wines": 1}},
         "data.versions: wines: found 1, but files holds no versions"),
    ],
)  # fmt: skip
def test_what_a_source_cannot_do_is_refused_by_name(workspace, changes, line):
    with pytest.raises(UserError, match=line):
        workspace.change(changes).run("ingest")


def test_a_month_of_missing_values_has_the_types_of_the_schema(workspace):
    def without_values_in_march(rows):
        march = rows["day"] < "2021-04-01"
        return rows.assign(malic_acid=rows["malic_acid"].mask(march))

    tables = workspace.root / "src/wine"
    code = (tables / "tables.py").read_text()
    tables.unlink()
    tables.mkdir()
    text = "    note: Series[str] = pa.Field(nullable=True)\n    class Config:\n"
    (tables / "tables.py").write_text(code.replace("    class Config:\n", text, 1))
    workspace.edit_table(
        "wines",
        lambda rows: without_values_in_march(rows).assign(
            note=rows["wine"].where(rows["day"] >= "2021-04-01")
        ),
    )
    done = workspace.command("ingest")
    assert done.code == 0 or "does not name it" in done.err, done.err
    folder = workspace.root / "data/raw/wines"
    kinds = {tuple(map(str, pq.read_schema(folder / name).types)) for name in months(workspace)}
    assert len(kinds) == 1
    assert kinds.pop()[-1] in ("string", "large_string")


@pytest.mark.parametrize("location", ["data", ".", "data/raw/wines", "file://models"])
def test_a_location_that_a_stage_writes_is_refused_and_its_files_stay(workspace, command, location):
    mine = workspace.root / "data/raw/wines/mine.csv"
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    done = command(workspace.change({"data.location": location}), "ingest")
    assert done.code == 2
    folder, stage = ("models/search", "tune") if "models" in location else ("data/raw", "ingest")
    assert done.err == (
        f"error: params.yaml: data.location: found {location!r}, expected a folder apart from "
        f"{folder}, which {stage} writes\n"
    )
    assert mine.read_text() == "mine"


def test_a_mistake_in_a_schema_s_parser_is_one_line_with_its_place(repository, tmp_path):
    workspace = repository("wine", tmp_path / "wine")
    package = workspace.root / "src/wine"
    text = (package / "tables.py").read_text()
    package.unlink()
    package.mkdir()
    (package / "__init__.py").touch()
    parser = (
        "    @pa.dataframe_parser\n    @classmethod\n    def dated(cls, rows):\n"
        "        return rows['no such column']\n\n    class Config:\n"
    )
    (package / "tables.py").write_text(text.replace("    class Config:\n", parser, 1))
    done = workspace.command("ingest")
    assert done.code == 2
    assert done.err.splitlines()[-1].endswith("KeyError: 'no such column'")
    assert "src/wine/tables.py:" in done.err
