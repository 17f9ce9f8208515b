"""Raw tables are kept as Parquet, a file a month, up to the last day known."""

import pandas as pd
import pytest

from mlops.data import ingest
from mlops.pipeline import lines


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


def test_the_result_says_what_was_kept_and_reads_back(workspace):
    result = workspace.run("ingest")
    assert result.rows == {"wines": 178, "shades": 3}
    line = lines.screen_line("ingest", result.model_dump(), 1.0, "run")
    assert line.split("   ")[-1] == "2 tables, 178 wines, 2021-03-01 to 2021-05-28"
    assert ingest.Ingested.load(workspace.root / "data/raw") == result


def test_csv_and_parquet_sources_give_the_same_raw_tables(workspace):
    workspace.run("ingest")
    from_csv = workspace.digest("data/raw")
    (workspace.tables() / "wines").mkdir()
    source = pd.read_csv(workspace.tables() / "wines.csv", parse_dates=["day"])
    source.to_parquet(workspace.tables() / "wines" / "part-0.parquet", index=False)
    (workspace.tables() / "wines.csv").unlink()
    workspace.run("ingest")
    assert workspace.digest("data/raw") == from_csv
