"""Tracking never costs a result, and never lands in another workspace's store."""

import http.server
import os
import sqlite3
import threading

import pytest

from mlops.base.errors import UserError
from mlops.pipeline import tracking


@pytest.fixture
def wines(finished, tmp_path):
    return finished("wine").copy(tmp_path / "wine")


@pytest.fixture
def stranger():
    """A server that answers, but is no MLflow."""
    server = http.server.HTTPServer(("127.0.0.1", 0), Stranger)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


class Stranger(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_error(404)

    do_POST = do_GET

    def log_message(self, *_):
        pass


def test_unset_means_a_file_below_the_root(tmp_path):
    assert tracking.uri(tmp_path) == f"sqlite:///{tmp_path}/mlruns/mlflow.db"


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


def test_the_variable_names_another_place(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://elsewhere")
    assert tracking.uri(tmp_path) == "http://elsewhere"


def test_connecting_leaves_the_environment_as_it_was(wines):
    tracking.connect(wines.params().model, wines.root)
    assert "MLFLOW_TRACKING_URI" not in os.environ


def test_a_server_that_does_not_answer_is_named_at_once(wines, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with pytest.raises(UserError, match=r"http://127\.0\.0\.1:9 does not answer"):
        tracking.connect(wines.params().model, wines.root)


def test_a_server_that_is_no_mlflow_is_named_and_registers_nothing(
    wines, command, stranger, monkeypatch
):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", stranger)
    done = command(wines, "register")
    assert done.code == 2
    assert done.err.startswith(f"error: MLFLOW_TRACKING_URI: {stranger}: ")
    assert len(done.err.splitlines()) == 1


def test_a_scheme_that_mlflow_does_not_know_is_named(wines, command, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "carrier-pigeon://home")
    done = command(wines, "register")
    assert done.code == 2
    assert done.err.startswith("error: MLFLOW_TRACKING_URI: carrier-pigeon://home: ")
    assert len(done.err.splitlines()) == 1


def test_what_is_tracked_twice_is_one_run(wines):
    model = wines.params().model
    for track in (tracking.search, tracking.bundle, tracking.evidence):
        assert track(model, wines.root) == track(model, wines.root)


def test_a_failure_to_track_is_one_line(wines, capsys):
    def fail(model, root):
        raise ValueError("two\nlines")

    tracking.tolerant(fail, wines.params().model, wines.root)
    assert capsys.readouterr().err == "not tracked, `mlops register` will: two lines\n"
