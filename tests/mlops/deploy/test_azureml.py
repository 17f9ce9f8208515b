"""What is Azure ML's own: what is below infra/azureml, the SDK's process, and its endpoints."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from mlops.base.errors import UserError
from mlops.deploy import azureml, specification
from mlops.deploy.azureml import sdk
from mlops.deploy.specification import name_of
from mlops.deploy.target import Endpoint, Running
from tests.conftest import REPOSITORY, Shared
from tests.mlops.deploy import small
from tests.mlops.deploy.azure_server import error, sdk_python
from tests.mlops.deploy.cloud import Fault
from tests.mlops.deploy.conftest import HERE, IMAGE, NAME
from tests.mlops.deploy.test_clouds import ENDPOINT

PIN = small.pin("0123456789ab" + "f" * 52, 3)
NAMES = ("0", "group", "work")


def slow(test: Any) -> Any:
    return pytest.mark.slow(pytest.mark.nightly(test))


@slow
def test_copies_go_to_one_bundle_and_the_batch_endpoint_follows_all_of_the_traffic(azure, bundles):
    first, second = azure.deploy(*bundles[:2])
    # Azure ML copies at most half of the requests.
    for asked, share in ((20, 20), (100, 50)):
        azureml.traffic(HERE, {first: 100}, {second: asked})
        assert azure.server.endpoint(NAME)["mirrorTraffic"] == {name_of(second): share}
    for share, default in ((0, first), (50, first), (100, second)):
        azureml.traffic(HERE, {first: 100 - share, second: share})
        assert not azure.server.endpoint(NAME)["mirrorTraffic"]
        defaults = azure.server.endpoint(f"{NAME}-batch", "batchEndpoints")["defaults"]
        assert defaults == {"deploymentName": name_of(default)}
    assert azure.current.address.endswith(f"/score/{NAME}")


@slow
def test_a_bundle_of_other_bytes_or_scores_is_not_deployed(azure, bundles, tmp_path):
    first = azure.deploy(bundles[0])
    small.made(tmp_path / "other", 9.0)
    pin = bundles[1][1]
    with pytest.raises(UserError, match=rf"{name_of(pin.digest)} serves \w+, expected"):
        azure.deploy((tmp_path / "other", pin))
    assert azure.current == Running({first: 100})
    azure.refuse("POST /score", 200, {"predictions": [{"probability": 0.5}] * 20})
    with pytest.raises(UserError, match="reference rows score .* off"):
        azure.deploy(bundles[2])
    assert azure.current == Running({first: 100})
    # Nor does what is deployed pass for a bundle once its model is of other bytes.
    models = [one for path, one in azure.server.resources.items() if "/models/" in path]
    (model,) = [one for one in models if first in str(one)]
    model["properties"]["properties"]["mlops.bundle"] = "0" * 64
    with pytest.raises(UserError, match="answers requests in Azure ML, and belongs to no bundle"):
        assert azure.current
    with pytest.raises(UserError, match=f"mlops.bundle: found '0+', expected '{first}'"):
        azure.deploy(bundles[0])


@slow
def test_a_busy_azure_is_waited_for_and_a_renewed_key_read(azure, bundles):
    first = azure.deploy(bundles[0])
    azure.server.faults += [
        Fault("GET", 429, error(429, "TooManyRequests", "").content, {"Retry-After": "0"}),
        Fault(ENDPOINT, 409, error(409, "Conflict", "").content, {"Retry-After": "0"}, times=2),
    ]
    azureml.note(HERE, "busy")
    assert azure.current == Running({first: 100}, "busy")
    assert not [fault for fault in azure.server.faults if fault.times]
    # The key is read once, and again after a failed answer.
    azure.refuse("POST /score", 503)
    scores = [azureml.ask(HERE, first, [{"x": 0.0, "z": 0.0}]).scores for _ in range(3)]
    assert scores == [(), (0.5,), (0.5,)]
    assert len([line for line in azure.server.log if "listKeys" in line]) == 2


@slow
def test_health_is_what_azure_monitor_counted(azure, bundles):
    first = azure.deploy(bundles[0])

    def series(code: str, *values: float) -> Any:
        dimension = [{"name": {"value": "envoy_response_code"}, "value": code}] if code else []
        data = [{"timeStamp": "2026-11-20T10:00:00Z", "average": value} for value in values]
        return {"metadatavalues": dimension, "data": data}

    azure.server.measured = {
        (name_of(first), "RequestsPerMinute"): [
            series("200", 60, 30), series("503", 2, 0), series("0", 1), series("422", 7)
        ],
        (name_of(first), "RequestLatency_P95"): [series("", 20.0, 0.0, 40.0)],
    }  # fmt: skip
    health = azureml.health(HERE, first)
    assert (health.requests, health.errors, health.scores) == (100, 3, ())
    assert health.seconds == pytest.approx(0.030)


@pytest.fixture
def specs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, dict[str, Any]]:
    monkeypatch.setenv(specification.IMAGE, IMAGE)
    return azureml.specifications(HERE, PIN, tmp_path)


@slow
def test_the_sdk_accepts_every_specification_and_refuses_a_broken_one_in_one_line(
    shared: Shared, specs, monkeypatch
):
    monkeypatch.setenv(sdk.PYTHON, sdk_python(shared))
    workspace = sdk.Workspace(REPOSITORY, NAMES)
    assert specs.keys() == azureml.FILES.keys()
    for kind, spec in specs.items():
        workspace.call(f"load {kind}", "check", kind=kind, spec=spec)
    for kind, change, line in (
        ("online_deployments", {"instance_typ": "DS3"}, '{ "instance_typ": [ "Unknown field." ] }'),
        ("online_endpoints", {"auth_mode": "password"}, "Value 'password' passed is not in set"),
    ):
        with pytest.raises(UserError) as raised:
            workspace.call("load it", "check", kind=kind, spec=specs[kind] | change)
        assert str(raised.value).startswith("Azure ML: could not load it: Validation for ")
        assert line in str(raised.value)
        assert "\n" not in str(raised.value)


@slow
def test_an_endpoint_may_have_an_identity_of_its_environment(shared: Shared, monkeypatch, tmp_path):
    identity = "/subscriptions/0/resourceGroups/g/providers/x/userAssignedIdentities/endpoint"
    monkeypatch.setenv(sdk.PYTHON, sdk_python(shared))
    monkeypatch.setenv(specification.IMAGE, IMAGE)
    monkeypatch.setenv(azureml.IDENTITY, identity)
    shutil.copytree(REPOSITORY / sdk.FOLDER, tmp_path / sdk.FOLDER)
    file = tmp_path / sdk.FOLDER / "endpoint.yaml"
    head, _, commented = file.read_text().partition("# identity:")
    file.write_text(f"{head}identity:" + commented.replace("\n#", "\n"))
    [spec] = [
        spec
        for kind, spec in azureml.specifications(
            Endpoint("staging", NAME, tmp_path), PIN, tmp_path
        ).items()
        if kind == "online_endpoints"
    ]
    assert spec["identity"] == {
        "type": "user_assigned", "user_assigned_identities": [{"resource_id": identity}]
    }  # fmt: skip
    sdk.Workspace(REPOSITORY, NAMES).call("load it", "check", kind="online_endpoints", spec=spec)


def test_without_its_file_there_is_no_batch_endpoint(specs, tmp_path):
    folder = tmp_path / sdk.FOLDER
    folder.mkdir(parents=True)
    for file in (REPOSITORY / sdk.FOLDER).glob("*.yaml"):
        if file.name != "batch-endpoint.yaml":
            (folder / file.name).write_bytes(file.read_bytes())
    loaded = azureml.specifications(Endpoint("staging", NAME, tmp_path), PIN, tmp_path)
    assert loaded == {kind: spec for kind, spec in specs.items() if "batch" not in kind}


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
    known = dict(zip(sdk.VARIABLES, NAMES, strict=True)) | {specification.IMAGE: IMAGE}
    for variable, value in (known | variables).items():
        monkeypatch.setenv(variable, value)
    with pytest.raises(UserError, match=f"^{re.escape(line)}") as raised:
        azureml.deploy(HERE, PIN, tmp_path)
    assert "\n" not in str(raised.value)
    sdk._workspace.cache_clear()
