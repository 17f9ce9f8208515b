"""A tracking server as companies have it is used, or refused in one line before anything."""

import os
import time

import pytest

from mlops.base.errors import UserError
from mlops.base.processes import free_port
from mlops.pipeline import tracking, tracking_server
from tests.mlops.deploy.cloud import Answer, Cloud, Fault, certificate

WORD = "s3cret"
EXPERIMENT = {"experiment_id": "7", "name": "churn", "lifecycle_stage": "active"}


class Server(Cloud):
    """As much of MLflow's API as finding an experiment takes."""

    routes = (
        (r"GET /version", "version"),
        (r"GET /api/2.0/mlflow/experiments/get-by-name", "experiment"),
    )
    number = "3.17.2"

    def version(self, call):
        return Answer(200, self.number)

    def experiment(self, call):
        return Answer(200, {"experiment": EXPERIMENT})


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "0")
    for name in tracking_server.BOUNDS:
        monkeypatch.delenv(name, raising=False)
    with Server() as server:
        monkeypatch.setenv(tracking_server.VARIABLE, server.url)
        yield server


def refusal(root):
    with pytest.raises(UserError) as refused:
        tracking.connect("churn", root)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_a_server_of_today_is_used(server, tmp_path):
    assert tracking.connect("churn", tmp_path)[1] == "7"


def test_a_server_that_is_too_old_is_refused_before_anything_is_asked(server, tmp_path):
    server.number = "2.9.2"
    assert refusal(tmp_path) == (
        f"MLFLOW_TRACKING_URI: {server.url}: found MLflow 2.9.2, expected 3.0 or newer; "
        "nothing was written"
    )
    assert server.log == ["GET /version"]


def test_a_proxy_that_shows_only_the_api_is_used(server, tmp_path):
    server.faults = [Fault("/version", 404, "no such page")]
    assert tracking.connect("churn", tmp_path)[1] == "7"


@pytest.mark.parametrize(
    ("status", "cure"),
    [
        (401, "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or "
              "MLFLOW_TRACKING_TOKEN"),
        (403, "this user may not do it; ask for the right to edit the experiment and the "
              "registered model"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("path", ["/version", "/experiments/"])
def test_a_user_who_may_not_is_told_the_cure(server, tmp_path, status, cure, path):
    server.faults = [Fault(path, status, "Permission denied")]
    line = refusal(tmp_path)
    assert line.startswith(f"MLFLOW_TRACKING_URI: {server.url}: ")
    assert str(status) in line
    assert line.endswith(f"; {cure}")


def test_a_server_that_answers_500_is_asked_a_few_times_and_told_of(server, tmp_path):
    server.faults = [Fault("/experiments/", 500, "oops", times=99)]
    assert refusal(tmp_path).endswith("; it was asked several times; look into the server's log")
    retries = int(tracking_server.BOUNDS["MLFLOW_HTTP_REQUEST_MAX_RETRIES"])
    assert len(server.log) == 1 + 1 + retries
    server.faults = [Fault("/version", 500, "oops", times=99)]
    assert refusal(tmp_path).startswith(f"MLFLOW_TRACKING_URI: {server.url}: 500 ")


def test_what_a_person_set_for_retries_wins(server, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    server.faults = [Fault("/experiments/", 500, "oops", times=99)]
    refusal(tmp_path)
    assert len(server.log) == 2


def test_slow_and_away_are_told_apart(server, tmp_path, monkeypatch):
    monkeypatch.setattr(tracking_server, "ANSWER_SECONDS", 0.1)
    monkeypatch.setattr(Server, "version", lambda *_: time.sleep(1) or Answer(200, "3.17.2"))
    slow = " is slow to answer; MLFLOW_HTTP_REQUEST_TIMEOUT says for how many seconds to wait"
    assert refusal(tmp_path) == f"MLFLOW_TRACKING_URI: {server.url}{slow}"
    away = f"http://127.0.0.1:{free_port()}"
    monkeypatch.setenv(tracking_server.VARIABLE, away)
    assert refusal(tmp_path).startswith(f"MLFLOW_TRACKING_URI: {away} does not answer; ")


@pytest.mark.parametrize("setting", ["MLFLOW_TRACKING_INSECURE_TLS",
                                     "MLFLOW_TRACKING_SERVER_CERT_PATH"])  # fmt: skip
def test_mlflows_own_settings_for_certificates_apply(server, tmp_path, monkeypatch, setting):
    context, public = certificate(tmp_path, "localhost")
    server._http.socket = context.wrap_socket(server._http.socket, server_side=True)
    monkeypatch.setenv(tracking_server.VARIABLE, f"https://localhost:{server.port}")
    assert "is not trusted; MLFLOW_TRACKING_SERVER_CERT_PATH names" in refusal(tmp_path)
    monkeypatch.setenv(setting, "true" if "INSECURE" in setting else str(public))
    assert tracking.connect("churn", tmp_path)[1] == "7"


def test_credentials_stay_out_of_messages(server, tmp_path, monkeypatch, capsys):
    uri = f"http://me:{WORD}@127.0.0.1:{free_port()}"
    monkeypatch.setenv(tracking_server.VARIABLE, uri)
    assert WORD not in refusal(tmp_path)
    tracking.tolerant(tracking.connect, "churn", tmp_path)
    said = capsys.readouterr().err
    assert said.startswith("not tracked, `mlops register` will: ")
    assert WORD not in said


@pytest.mark.parametrize(
    ("named", "absolute"),
    [
        ("sqlite:///team.db", "sqlite:///{root}/team.db"),
        ("sqlite:////srv/team.db", "sqlite:////srv/team.db"),
        ("./store", "{root}/store"),
        ("../store", "{root.parent}/store"),
        ("file:store", "file:{root}/store"),
        ("/srv/store", "/srv/store"),
        ("databricks", "databricks"),
        ("$(MLFLOW_TRACKING_URI)", "sqlite:///{root}/mlruns/mlflow.db"),
        ("", "sqlite:///{root}/mlruns/mlflow.db"),
    ],
)
def test_a_relative_place_becomes_absolute(tmp_path, monkeypatch, named, absolute):
    monkeypatch.setenv(tracking_server.VARIABLE, named)
    assert tracking_server.uri(tmp_path) == absolute.format(root=tmp_path)
    assert os.environ[tracking_server.VARIABLE] == named


@pytest.mark.slow
def test_a_deleted_experiment_is_one_line_with_the_cure(tmp_path, monkeypatch):
    monkeypatch.delenv(tracking_server.VARIABLE, raising=False)
    client, number = tracking.connect("churn", tmp_path)
    client.delete_experiment(number)
    assert refusal(tmp_path).endswith(
        f"experiment 'churn' is deleted; `mlflow experiments restore --experiment-id {number}`, "
        "or another `model` in params.yaml"
    )
