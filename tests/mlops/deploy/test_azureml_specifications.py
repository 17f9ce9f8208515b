"""What is below infra/azureml, read by Azure ML's own SDK; and the process that the SDK runs in."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import requests

from mlops.base.errors import UserError
from mlops.deploy import azureml, specification
from mlops.deploy.azureml import sdk
from mlops.deploy.target import Endpoint
from tests.conftest import REPOSITORY, Shared
from tests.mlops.deploy import small
from tests.mlops.deploy.azure_server import sdk_python

HERE = Endpoint("staging", "flights-late", REPOSITORY)
PIN = small.pin("0123456789ab" + "f" * 52, 3)
IMAGE = f"registry.example/mlops-serving@sha256:{'a' * 64}"
WORKSPACE = ("0", "group", "work")


@pytest.fixture
def specs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, dict[str, Any]]:
    monkeypatch.setenv(specification.IMAGE, IMAGE)
    return azureml.specifications(HERE, PIN, tmp_path)


@pytest.fixture(scope="module")
def workspace(shared: Shared) -> sdk.Workspace:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(sdk.PYTHON, sdk_python(shared))
        workspace = sdk.Workspace(REPOSITORY, WORKSPACE)
        workspace.call("load it", "check", kind="environments", spec={"name": "a", "image": "b"})
        return workspace


@pytest.mark.slow
@pytest.mark.nightly
def test_the_sdk_accepts_every_specification(workspace, specs):
    assert specs.keys() == azureml.FILES.keys()
    for kind, spec in specs.items():
        workspace.call(f"load {kind}", "check", kind=kind, spec=spec)


@pytest.mark.slow
@pytest.mark.nightly
@pytest.mark.parametrize(
    ("kind", "change", "line"),
    [
        ("online_deployments", {"instance_typ": "Standard_DS3_v2"},
         '{ "instance_typ": [ "Unknown field." ] }'),
        ("online_deployments", {"liveness_probe": {"period": "often"}}, '"liveness_probe": {'),
        ("online_deployments", {"model": "flights-late"}, '"model": ['),
        ("online_endpoints", {"auth_mode": "password"}, "Value 'password' passed is not in set"),
        ("online_endpoints", {"name": None}, '"name": ['),
        ("environments", {"inference_config": {"scoring_route": {"path": "/invocations"}}},
         '"port": ['),
        ("batch_deployments", {"mini_batches": 3}, '{ "mini_batches": [ "Unknown field." ] }'),
        ("batch_deployments", {"output_action": "print"}, '"output_action": ['),
        ("batch_endpoints", {"auth_mode": "password"}, "Value 'password' passed is not in set"),
    ],
)  # fmt: skip
def test_the_sdk_refuses_a_broken_specification_in_one_line(workspace, specs, kind, change, line):
    with pytest.raises(UserError) as raised:
        workspace.call("load it", "check", kind=kind, spec=specs[kind] | change)
    assert str(raised.value).startswith("Azure ML: could not load it: Validation for ")
    assert line in str(raised.value)
    assert "\n" not in str(raised.value)


def test_without_its_file_there_is_no_batch_endpoint(specs, tmp_path):
    folder = tmp_path / sdk.FOLDER
    folder.mkdir(parents=True)
    for file in (REPOSITORY / sdk.FOLDER).glob("*.yaml"):
        if file.name != "batch-endpoint.yaml":
            (folder / file.name).write_bytes(file.read_bytes())
    found = azureml.specifications(Endpoint("staging", "flights-late", tmp_path), PIN, tmp_path)
    assert found == {kind: spec for kind, spec in specs.items() if "batch" not in kind}


@pytest.mark.parametrize(
    ("variables", "line"),
    [
        ({sdk.VARIABLES[2]: ""}, "AZUREML_ARM_WORKSPACE_NAME: found '', expected where the"),
        ({specification.IMAGE: "mlops-serving:latest"},
         "MLOPS_SERVING_IMAGE: found 'mlops-serving:latest', expected NAME@sha256:DIGEST"),
        ({sdk.PYTHON: "/nowhere/python"},
         "MLOPS_AZUREML_PYTHON: /nowhere/python: No such file or directory"),
        ({sdk.PYTHON: "/bin/false"},
         "Azure ML: could not use infra/azureml/environment.yaml: its SDK ended: exit code 1"),
        # This project's own Python, which has no such package.
        ({sdk.PYTHON: sys.executable},
         "Azure ML: could not use infra/azureml/environment.yaml: No module named 'azure.ai'"),
    ],
)  # fmt: skip
def test_a_wrong_variable_is_one_line(monkeypatch, tmp_path, variables, line):
    sdk._workspace.cache_clear()
    known = dict(zip(sdk.VARIABLES, WORKSPACE, strict=True)) | {specification.IMAGE: IMAGE}
    for variable, value in (known | variables).items():
        monkeypatch.setenv(variable, value)
    with pytest.raises(UserError, match=f"^{re.escape(line)}") as raised:
        azureml.deploy(HERE, PIN, tmp_path)
    assert "\n" not in str(raised.value)


@pytest.mark.slow
def test_the_image_starts_as_azure_ml_starts_it(tmp_path):
    """The Dockerfile's entry point, in a shell, with a model where Azure ML mounts one."""
    digest = small.made(tmp_path / "models/small-bundle/1/bundle", 2.0)
    lines = (REPOSITORY / sdk.FOLDER / "Dockerfile").read_text().splitlines()
    entry = json.loads(next(x for x in lines if x.startswith("ENTRYPOINT")).split(" ", 1)[1])
    port = "18083"
    entry[2] = entry[2].replace("0.0.0.0", f"127.0.0.1 --port {port}")
    variables = {
        "AZUREML_MODEL_DIR": str(tmp_path / "models/small-bundle/1"),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "MLOPS_MODEL_VERSION": "3",
    }
    service = subprocess.Popen(entry, env={**os.environ, **variables})
    try:
        rows = {"dataframe_records": [{"x": 0.0, "z": 0.0}]}
        session = requests.Session()
        retry = requests.adapters.Retry(total=40, backoff_factor=0.1, backoff_max=1)
        session.mount("http://", requests.adapters.HTTPAdapter(max_retries=retry))
        response = session.post(f"http://127.0.0.1:{port}/invocations", json=rows)
    finally:
        service.terminate()
        service.wait()
    assert response.json() == {"predictions": [{"probability": 0.5}]}
    assert (response.headers["x-model-digest"], response.headers["x-model-version"]) == (
        digest, "3"
    )  # fmt: skip
