"""Tracking never costs a result, and never lands in another workspace's store."""

import os
import resource
import sqlite3
from pathlib import Path

import pytest

from mlops.base.files import write_json
from mlops.pipeline import stage, tracking


@pytest.fixture
def wines(finished, tmp_path):
    return finished("wine").copy(tmp_path / "wine")


@pytest.mark.slow
def test_a_store_that_was_begun_and_killed_is_begun_anew(tmp_path, monkeypatch):
    """MLflow's tables are made one by one: half of them can be neither used nor completed."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    store = tmp_path / "mlruns"
    store.mkdir()
    half = sqlite3.connect(store / ".mlflow.db.part")
    half.execute("create table experiments (experiment_id integer)")
    half.commit()
    assert not tracking.has_store(tmp_path)
    assert [e.name for e in tracking.client(tmp_path).search_experiments()] == ["Default"]
    assert [path.name for path in store.iterdir()] == ["mlflow.db"]


def test_connecting_leaves_the_environment_as_it_was(wines):
    tracking.connect(wines.params().model, wines.root)
    assert "MLFLOW_TRACKING_URI" not in os.environ


@pytest.mark.parametrize(
    ("uri", "line"),
    [
        ("a server that is no MLflow", "{uri}: "),
        ("carrier-pigeon://home", "carrier-pigeon://home: "),
    ],
)
def test_a_place_that_is_no_mlflow_is_named_in_one_line(
    wines, command, refusing, monkeypatch, uri, line
):
    uri = refusing if " " in uri else uri
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    done = command(wines, "register")
    assert done.code == 2
    assert done.err.startswith(f"error: MLFLOW_TRACKING_URI: {line.format(uri=uri)}")
    assert len(done.err.splitlines()) == 1


def test_what_is_tracked_twice_is_one_run(wines):
    model = wines.params().model
    for track in (tracking.search, tracking.bundle, tracking.evidence):
        assert track(model, wines.root) == track(model, wines.root)


def runs(root):
    client, experiment = tracking.connect("a-model", root)
    return {run.info.run_name: run for run in client.search_runs([experiment])}


def test_a_trial_is_a_run_and_one_that_was_given_up_has_no_loss(wines):
    file = wines.root / "models/search/trials.json"
    known = {"family": "linear", "hyperparameters": {"C": 1.0}, "first_look": 0.6, "loss": 0.5}
    full, given_up = {"fold_losses": [0.4, 0.6], "given_up": False}, {"given_up": True}
    write_json(file, [known | full, known | given_up])
    tracking.search("a-model", wines.root)
    trial, other = (runs(wines.root)[f"trial {number} linear"].data for number in (0, 1))
    assert (trial.params, trial.tags["given_up"]) == ({"family": "linear", "C": "1.0"}, "False")
    assert trial.metrics == {"loss": 0.5, "first_look": 0.6, "loss_fold_0": 0.4, "loss_fold_1": 0.6}
    # One look at few rows is no loss over the folds, which would win in a list by it.
    assert (other.metrics, other.tags["given_up"]) == ({"first_look": 0.6}, "True")


def test_a_failure_to_track_is_one_line(tmp_path, capsys):
    def fail(*_):
        raise ValueError("two\nlines")

    tracking.tolerant(fail, "a-model", tmp_path)
    assert capsys.readouterr().err == "not tracked, `mlops register` will: two lines\n"


def test_a_store_in_which_no_file_may_grow_is_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8192, before[1]))
    try:
        code = stage.guarded(lambda: tracking.client(Path()))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: MLFLOW_TRACKING_URI: sqlite:///")
    assert code == 2
