"""What a user can mend ends in one line and exit code 2, and the earlier outputs stay whole."""

import re
import shutil

import pandas as pd
import pytest

from tests.conftest import OUTPUTS


@pytest.fixture
def wines(finished, tmp_path):
    """A workspace of its own in which all stages ended well."""
    return finished("wine").copy(tmp_path)


@pytest.fixture
def refused(command):
    """Run a stage that must refuse: what it said, all earlier outputs being whole."""

    def run(workspace, stage):
        before = {place: workspace.digest(place) for place in OUTPUTS.values()}
        done = command(workspace, stage)
        assert done.code == 2, done.err
        assert done.out == ""
        assert {place: workspace.digest(place) for place in OUTPUTS.values()} == before
        assert not list(workspace.root.rglob(".*.part-*"))
        return done.err

    return run


@pytest.mark.parametrize(
    ("stage", "changes", "line"),
    [
        ("ingest", {"data.until": None},
         "error: params.yaml: data.until: missing; expected a day that wines.day has: "
         "2021-03-01 to 2021-05-28\n"),
        ("ingest", {"data.until": "2021-07-15"},
         "error: wines.day: no rows in 2021-06, 2021-07; expected every month from 2021-03 to "
         "data.until, 2021-07-15\n"),
        ("featurize", {"split.holdout_days": 365},
         "error: params.yaml: split.holdout_days: found 365; a holdout from 2020-05-29 to "
         "2021-05-28 leaves the training part without rows\n"),
        ("tune", {"split.folds": 12},
         "error: params.yaml: split: 12 folds of 14 days: the one from 2020-11-12 has no rows of "
         "two outcomes before or in it\n"),
        ("tune", {"tune.families": ["neural"]},
         "error: params.yaml: tune.families: found 'neural'; known: "
         "hist_gradient_boosting, lightgbm, linear, xgboost\n"),
    ],
)  # fmt: skip
def test_a_parameter_is_refused(wines, refused, stage, changes, line):
    assert refused(wines.change(changes), stage) == line


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        pytest.param(lambda t: t.rename(columns={"hue": "hues"}),
                     ["wines  hue     is there  0     missing; did you mean 'hues'?",
                      "wines  hues    is known  178   not in the schema: 0.54, 1.09, 0.72; did "
                      "you mean 'hue'?"],
                     id="renamed column"),
        pytest.param(lambda t: t.assign(hue="red", alcohol=-1),
                     ["wines  alcohol  greater_than_or_equal_to(5)  178  -1.0",
                      "wines  hue     is a number (float64)  178   red"],
                     id="two failures at once"),
    ],
)  # fmt: skip
def test_a_table_is_refused_with_column_check_rows_and_examples(wines, refused, edit, said):
    lines = refused(wines.edit_table("wines", edit), "ingest").splitlines()
    many = "checks" if len(said) > 1 else "check"
    assert lines[0] == f"error: wines: {len(said)} {many} failed; nothing was written"
    assert [line.split() for line in lines[2:]] == [line.split() for line in said]


def test_one_class_only_is_refused(wines, refused):
    for path in (wines.root / "data/raw/wines").iterdir():
        pd.read_parquet(path).assign(grower=1).to_parquet(path, index=False)
    assert refused(wines, "featurize") == (
        "error: features: grower: found only 1, expected at least two different outcomes\n"
    )


@pytest.mark.parametrize(
    ("stage", "gone", "writer"),
    [
        ("featurize", "data/raw", "ingest"),
        ("tune", "data/features", "featurize"),
        ("train", "models/search", "tune"),
        ("train", "data/features", "featurize"),
        ("evaluate", "models/bundle", "train"),
        ("register", "models/search", "tune"),
        ("register", "reports", "evaluate"),
    ],
)
def test_an_input_that_is_not_there_is_named_with_its_stage(wines, command, stage, gone, writer):
    shutil.rmtree(wines.root / gone)
    done = command(wines, stage)
    assert (done.code, done.out) == (2, "")
    assert re.fullmatch(rf"error: .*{gone}.*; {writer} writes it\n", done.err)


def test_a_bundle_changed_by_hand_is_not_scored_nor_registered(wines, refused):
    with (wines.root / "models/bundle/model.onnx").open("ab") as model:
        model.write(b"\0")
    for stage in ("evaluate", "register"):
        said = refused(wines, stage)
        assert said.startswith("error: models/bundle/model.onnx: found ")
        assert ", expected digest " in said


def test_spark_without_java_is_said_before_anything_else(wines, refused, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setenv("JAVA_HOME", "/nowhere")
    line = (
        "error: params.yaml: engine: found 'spark', but no Java on the PATH or in JAVA_HOME; "
        "install Java 17, set SPARK_REMOTE to a Spark Connect server, or set 'duckdb'\n"
    )
    wines.change({"engine": "spark"})
    assert refused(wines, "featurize") == line
    assert refused(wines, "tune") == line


def test_without_a_tracking_server_the_evidence_is_kept_and_registered_later(
    wines, command, monkeypatch
):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    shutil.rmtree(wines.root / "reports")
    done = command(wines, "evaluate")
    assert done.code == 0
    assert done.err == (
        "not tracked, `mlops register` will: MLFLOW_TRACKING_URI: http://127.0.0.1:9 does not "
        "answer; nothing that was made is lost: start the server and try again\n"
    )
    refused = command(wines, "register")
    assert (refused.code, len(refused.err.splitlines())) == (2, 1)
    assert "http://127.0.0.1:9 does not answer" in refused.err
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert "version 1 (registered)" in command(wines, "register").out
