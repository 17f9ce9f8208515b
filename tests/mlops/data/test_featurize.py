"""The feature table has its holdout set apart by day, and no row without key, day or outcome."""

import dataclasses
import re

import pandas as pd
import pytest

from mlops.base.errors import UserError
from mlops.contract import project
from mlops.data import engine, featurize


def parts(workspace):
    folder = workspace.root / "data/features"
    return pd.read_parquet(folder / "training.parquet"), pd.read_parquet(folder / "holdout.parquet")


@pytest.fixture
def workspace(repository, tmp_path):
    return repository("diabetes", tmp_path / "diabetes")


def test_the_holdout_is_the_last_days_and_rows_without_an_outcome_are_left_out(workspace):
    result = workspace.run("ingest", "featurize")
    training, holdout = parts(workspace)
    assert holdout["day"].max() - holdout["day"].min() == pd.Timedelta(days=29)
    assert training["day"].max() < holdout["day"].min()
    assert result.dropped == {"without an outcome": 12}
    assert len(training) + len(holdout) == 442 - 12
    assert training["progression"].notna().all()
    # They still count as history.
    assert training[training["patient"] == "1"]["patients_before"].tolist() == [1.0]
    assert result.null_share["bp"] == pytest.approx(training["bp"].isna().mean(), abs=1e-6)
    assert result.target_mean["training"] == pytest.approx(training["progression"].mean(), abs=1e-6)
    assert featurize.Featurized.load(workspace.root / "data/features") == result


def test_moving_the_last_day_moves_the_holdout_and_no_earlier_feature(workspace):
    workspace.change({"data.until": "2020-04-30"}).run("ingest", "featurize")
    early = pd.concat(parts(workspace), ignore_index=True)
    workspace.change({"data.until": "2020-05-27"}).run("ingest", "featurize")
    late = pd.concat(parts(workspace), ignore_index=True)
    pd.testing.assert_frame_equal(late.head(len(early)), early, check_exact=True)


def test_rows_with_days_need_the_last_one_though_no_table_has_a_day(workspace):
    workspace.run("ingest")
    result = workspace.root / "data/raw/result.json"
    result.write_text(re.sub(r'"until": "[^"]*"', '"until": null', result.read_text()))
    line = "params.yaml: data.until: missing; expected the last known day"
    with pytest.raises(UserError, match=line):
        workspace.run("featurize")


@pytest.fixture
def trips(repository, tmp_path):
    """A workspace whose raw tables are ingested."""
    workspace = repository("trips", tmp_path / "trips")
    workspace.run("ingest")
    return workspace


def test_a_holdout_of_one_class_is_refused_before_anything_is_searched(trips):
    for path in (trips.root / "data/raw/trips").glob("2023-03*"):
        pd.read_parquet(path).assign(delay=0).to_parquet(path, index=False)
    with pytest.raises(UserError) as error:
        trips.run("featurize")
    assert str(error.value) == (
        "params.yaml: split.holdout_days: found 21; a holdout from 2023-03-11 to 2023-03-31 "
        "leaves the holdout part with one outcome of late, 0, expected at least two"
    )


def test_a_mistake_in_the_features_is_named_with_their_line(trips, monkeypatch):
    with engine.engine_as_pyspark("duckdb"):
        spec = project.features("trips")
    monkeypatch.setattr(project, "forget", lambda name: None)

    def broken(tables):
        return tables["tripz"]

    monkeypatch.setattr(project, "features", lambda name: dataclasses.replace(spec, build=broken))
    with pytest.raises(UserError, match=rf"^{__file__}:\d+: KeyError: 'tripz'$"):
        trips.run("featurize")
    column = dataclasses.replace(spec, build=lambda tables: tables["trips"].select("colour"))
    monkeypatch.setattr(project, "features", lambda name: column)
    with pytest.raises(UserError, match=r"^\S.*: \w+: .*colour"):
        trips.run("featurize")


@pytest.mark.parametrize("column", ["patient", "day"])
def test_a_row_whose_key_or_day_is_missing_is_refused(workspace, monkeypatch, column):
    workspace.run("ingest")
    spec = project.features

    def features(name):
        from pyspark.sql import functions as F

        made = spec(name)

        def build(tables):
            some = F.col("age") > 60
            return made.build(tables).withColumn(
                column, F.when(some, None).otherwise(F.col(column))
            )

        return type(made)(**{**vars(made), "build": build})

    monkeypatch.setattr(project, "features", features)
    with pytest.raises(UserError, match=f"features: {column}: \\d+ rows without a value"):
        workspace.run("featurize")


def test_a_limit_that_is_too_small_for_the_features_is_one_line(workspace, command, monkeypatch):
    workspace.run("ingest", "featurize")
    before = workspace.digest("data/features")
    monkeypatch.setenv("DUCKDB_MEMORY_LIMIT", "1MB")
    done = command(workspace, "featurize")
    assert (done.code, len(done.err.splitlines())) == (2, 1)
    assert done.err.startswith("error: not enough memory: ")
    assert workspace.digest("data/features") == before


def test_a_folder_s_name_may_hold_what_a_pattern_would(repository, tmp_path):
    workspace = repository("diabetes", tmp_path / "case [v2] 'ü' *")
    assert workspace.run("ingest", "featurize").rows["training"] > 0
