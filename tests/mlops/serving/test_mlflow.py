"""`/invocations` answers what `mlflow models serve` answers for the same registered model."""

import json

import numpy as np
import pandas as pd
import pytest
import requests

from mlops.contract import bundle
from mlops.pipeline import tracking_server
from tests.mlops.serving import forms
from tests.served import served

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
    """MLflow's own service, of the version that the registry holds."""
    import mlflow
    from fastapi.testclient import TestClient
    from mlflow.pyfunc import scoring_server

    with pytest.MonkeyPatch.context() as patched:
        # The service sets it for its process.
        patched.setenv("_MLFLOW_IS_IN_SERVING_ENVIRONMENT", "true")
        mlflow.set_tracking_uri(tracking_server.uri(workspace.root))
        yield TestClient(scoring_server.init(mlflow.pyfunc.load_model("models:/wine-model/1")))


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
        requests.post(f"{ours}{sent.path}", sent.body, headers=sent.headers, timeout=30),
        theirs.post(sent.path, content=sent.body, headers=sent.headers),
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


# A missing number, an empty word, a blank line, numbers as people write them, lines of another
# system, a word with quotes, commas and lines.
LINES = [
    "red,NA,2,3,4,5", ",1,2,3,4,5", "red,1,2,3,4,5\n\nred,1,2,3,4,5", "red,+1,2.,.3,4e0, 5",
    "red,1,2,3,4,5\r\nred,1,2,3,4,5\r", '"r""e,\nd",1,2,3,4,5',
]  # fmt: skip


def test_csv_is_read_alike(ours, theirs, frame):
    for mark, line in (*(("", line) for line in LINES), ("\ufeff", LINES[0])):
        text = f"{mark}{','.join(frame)}\n{line}\n"
        same(ours, theirs, forms.Sent("/invocations", text.encode(), {"Content-Type": forms.CSV}))


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
