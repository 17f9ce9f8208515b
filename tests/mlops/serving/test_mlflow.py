"""`/invocations` answers what `mlflow models serve` answers for the same registered model."""

import json
import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import requests

from mlops.contract import bundle
from tests.mlops.serving import forms
from tests.served import free_port, served

pytestmark = [pytest.mark.slow, pytest.mark.nightly, pytest.mark.timeout(300)]
NAMES = [name for name in forms.FORMS if name not in ("predict",) and not name.startswith("v2")]


@pytest.fixture(scope="module")
def workspace(finished):
    return finished("wine")


@pytest.fixture(scope="module")
def ours(workspace, tmp_path_factory):
    folder = workspace.root / "models" / "bundle"
    with served(folder, tmp_path_factory.mktemp("ours")) as service:
        yield service.url


@pytest.fixture(scope="module")
def theirs(workspace, tmp_path_factory):
    """MLflow's own server, of the version that the registry holds."""
    from mlflow.pyfunc.scoring_server.client import ScoringServerClient

    port, log = free_port(), tmp_path_factory.mktemp("theirs") / "log"
    store = {"MLFLOW_TRACKING_URI": f"sqlite:///{workspace.root / 'mlruns' / 'mlflow.db'}"}
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", "models:/wine-model/1",
               "--env-manager", "local", "--port", str(port)]  # fmt: skip
    with log.open("wb") as file:
        process = subprocess.Popen(
            command, env={**os.environ, **store}, stdout=file, stderr=file, start_new_session=True
        )
    try:
        client = ScoringServerClient("127.0.0.1", port)
        client.wait_server_ready(timeout=120, scoring_server_proc=process)
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(process.pid, 15)
        process.wait(30)


@pytest.fixture(scope="module")
def frame(workspace):
    """Real rows; a number and a word are missing, another word is new."""
    folder = workspace.root / "models" / "bundle"
    names = [column.name for column in bundle.read_card(folder).inputs]
    rows = pd.read_parquet(folder / bundle.REFERENCE, columns=names).head(20)
    numbers = [name for name in names if rows[name].dtype != object]
    rows.iloc[3, rows.columns.get_loc(numbers[0])] = np.nan
    rows.iloc[4, rows.columns.get_loc("shade")] = ""
    rows.iloc[5, rows.columns.get_loc("shade")] = "never seen"
    return rows


def same(ours, theirs, sent):
    """The same status, type and JSON: the same bytes, but that MLflow writes spaces."""
    replies = [
        requests.post(f"{url}{sent.path}", sent.body, headers=sent.headers, timeout=30)
        for url in (ours, theirs)
    ]
    assert [reply.status_code for reply in replies] == [200, 200], replies[0].text
    assert replies[0].headers["content-type"] == replies[1].headers["content-type"]
    assert json.dumps(replies[0].json()).encode() == replies[1].content


@pytest.mark.parametrize("form", NAMES)
def test_every_form_is_answered_alike(ours, theirs, frame, form):
    same(ours, theirs, forms.forms("wine-model")[form](frame))


@pytest.mark.parametrize("form", [forms.inputs_as_one_record, forms.inputs_as_columns])
def test_a_single_row_is_answered_alike(ours, theirs, frame, form):
    same(ours, theirs, form(frame.head(1)))


def test_columns_in_another_order_are_answered_alike(ours, theirs, frame):
    same(ours, theirs, forms.dataframe_split(frame[frame.columns[::-1]]))


LINES = {
    "a missing number": "red,NA,2,3,4,5",
    "an empty word": ",1,2,3,4,5",
    "a blank line": "red,1,2,3,4,5\n\nred,1,2,3,4,5",
    "numbers as people write them": "red,+1,2.,.3,4e0, 5",
    "lines of another system": "red,1,2,3,4,5\r\nred,1,2,3,4,5\r",
    "a word with quotes, commas and lines": '"r""e,\nd",1,2,3,4,5',
}


@pytest.mark.parametrize("line", LINES.values(), ids=LINES)
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_csv_is_read_alike(ours, theirs, frame, line, mark):
    text = f"{mark}{','.join(frame)}\n{line}\n"
    same(ours, theirs, forms.Sent("/invocations", text.encode(), {"Content-Type": forms.CSV}))


@pytest.mark.parametrize(
    "body", [{}, [], {"inputs": [], "instances": []}, {"dataframe_records": []}, {"inputs": {}}]
)
def test_what_mlflow_refuses_is_refused(ours, theirs, body):
    replies = [requests.post(f"{url}/invocations", json=body, timeout=30) for url in (ours, theirs)]
    assert all(400 <= reply.status_code < 500 for reply in replies)


@pytest.mark.parametrize("path", ["/ping", "/health", "/version"])
def test_health_is_said_alike(ours, theirs, path):
    replies = [requests.get(f"{url}{path}", timeout=30) for url in (ours, theirs)]
    assert [reply.status_code for reply in replies] == [200, 200]
    if path != "/version":
        assert replies[0].content == replies[1].content


def test_mlflows_own_client_gets_the_bundles_answers(workspace, ours, frame):
    from mlflow.deployments import PredictionsResponse
    from mlflow.pyfunc.scoring_server.client import ScoringServerClient

    host, port = ours.removeprefix("http://").split(":")
    client = ScoringServerClient(host, int(port))
    client.ping()
    assert client.get_version()
    answer = client.invoke(frame)
    assert isinstance(answer, PredictionsResponse)
    scorer = bundle.Scorer(workspace.root / "models" / "bundle")
    assert (answer.get_predictions().to_numpy() == scorer.predict(frame)).all()
    with pytest.raises(Exception, match="error code 422, .*column 'hue': missing"):
        client.invoke(frame.drop(columns="hue"))
