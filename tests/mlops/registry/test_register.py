"""One version for the same bytes, found again by digest, with the runs that made it."""

import numpy as np
import pandas as pd
import pytest

from mlops.base.files import read_json
from mlops.contract import bundle
from mlops.pipeline import tracking_server

pytestmark = pytest.mark.slow


@pytest.fixture
def wines(finished, tmp_path):
    return finished("wine").copy(tmp_path / "wine")


@pytest.fixture(scope="module")
def registered(finished, tmp_path_factory):
    """A workspace whose bundle came from elsewhere and was registered here; to read from."""
    workspace = finished("wine").copy(tmp_path_factory.mktemp("registered") / "wine")
    return workspace, workspace.run("register")


def client_of(workspace):
    from mlflow import MlflowClient

    return MlflowClient(tracking_server.uri(workspace.root))


def versions(workspace):
    return client_of(workspace).search_model_versions("name = 'wine-model'")


def runs(workspace):
    client = client_of(workspace)
    experiment = client.get_experiment_by_name("wine-model")
    return client.search_runs([experiment.experiment_id])


def test_a_restored_bundle_gets_the_runs_that_made_it_first(registered):
    workspace, _ = registered
    by_name = {run.info.run_name.split()[0]: run for run in runs(workspace)}
    trials = read_json(workspace.root / "models/search/trials.json")
    assert len(runs(workspace)) == 2 + len(trials)
    assert {run.info.status for run in runs(workspace)} == {"FINISHED"}
    for name in ("trial", "bundle"):
        parent = by_name[name].data.tags["mlflow.parentRunId"]
        assert parent == by_name["search"].info.run_id


def test_the_version_and_its_run_say_where_it_comes_from(registered):
    workspace, result = registered
    (version,) = versions(workspace)
    card = bundle.read_card(workspace.root / "models/bundle")
    assert version.tags["mlops.bundle"] == bundle.digest(workspace.root / "models/bundle")
    assert version.tags["mlops.data"] == card.hashes["data"]
    assert version.tags["mlops.holdout"] == card.hashes["holdout"]
    assert version.tags["mlops.git_commit"] == "unknown"
    assert version.run_id == result.run
    client = client_of(workspace)
    run = client.get_run(result.run)
    measured = read_json(workspace.root / "reports/metrics.json")["holdout"]["log_loss"]["value"]
    assert run.data.metrics["holdout_log_loss"] == pytest.approx(measured)
    assert run.data.params["project"] == "wine"
    assert {each.dataset.name for each in run.inputs.dataset_inputs} == {"training", "holdout"}
    artifacts = {file.path for file in client.list_artifacts(result.run, "evidence")}
    assert "evidence/report.html" in artifacts
    place = str((workspace.root / "mlruns" / "artifacts").resolve())
    assert all(r.info.artifact_uri.removeprefix("file://").startswith(place)
               for r in runs(workspace))  # fmt: skip


def test_the_registered_model_predicts_what_the_bundle_predicts(registered):
    import mlflow

    workspace, _ = registered
    mlflow.set_tracking_uri(tracking_server.uri(workspace.root))
    model = mlflow.pyfunc.load_model("models:/wine-model@challenger")
    holdout = pd.read_parquet(workspace.root / "data/features/holdout.parquet")
    scorer = bundle.Scorer(workspace.root / "models/bundle")
    frame = holdout[[column.name for column in scorer.card.inputs]]
    prediction = pd.DataFrame(model.predict(frame)).to_numpy().reshape(-1, 3)
    assert np.abs(prediction - scorer.predict(frame)).max() < 1e-6
    assert model.metadata.get_input_schema().input_names() == list(frame)


def test_other_bytes_are_another_version_and_the_alias_moves_there_and_back(wines):
    file = wines.root / "models/bundle/bundle.json"
    card, first = file.read_text(), wines.run("register")
    before = {run.info.run_id for run in runs(wines)}
    file.write_text(card + " ")
    assert wines.run("register").version == 2
    made = {run.info.run_id for run in runs(wines)}
    file.write_text(card)
    again = wines.run("register")
    assert (again.version, again.new, again.digest) == (1, False, first.digest)
    alias = client_of(wines).get_model_version_by_alias("wine-model", "challenger")
    assert int(alias.version) == 1
    # What was written is not written again.
    assert before < made == {run.info.run_id for run in runs(wines)}


def test_a_registration_stopped_before_its_version_can_be_repeated(wines, monkeypatch):
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    def stopped(*_args, **_keywords):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "create_model_version", stopped)
        with pytest.raises(KeyboardInterrupt):
            wines.run("register")
    with pytest.raises(MlflowException):
        client_of(wines).get_model_version_by_alias("wine-model", "challenger")
    result = wines.run("register")
    assert (result.version, result.new) == (1, True)
    assert len(runs(wines)) == 2 + 4


def test_of_two_registrations_at_once_one_makes_the_version(wines):
    both = [wines.start("register") for _ in range(2)]
    outputs = [process.communicate(timeout=300) for process in both]
    codes = sorted(process.returncode for process in both)
    # Unless one had ended before the other began, that one is told to wait.
    assert codes == [0, 0] or (codes == [0, 2] and "another training runs" in str(outputs)), outputs
    assert len(versions(wines)) == 1
