"""Azure ML as a target, against its REST API as it runs here."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mlops.base.errors import UserError
from mlops.deploy import azureml
from mlops.deploy.azureml import arm
from mlops.deploy.specification import name_of
from mlops.deploy.target import Endpoint, Running
from mlops.registry.pin import Pin
from tests.conftest import REPOSITORY
from tests.mlops.deploy import small, story
from tests.mlops.deploy.azure_server import WORKSPACE, Azure
from tests.mlops.deploy.cloud import Fault, Killed, killed

NAME = "flights-late"
HERE = Endpoint("staging", NAME, REPOSITORY)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Path, Pin]]:
    """Three bundles with their pins."""
    folders = [tmp_path_factory.mktemp("bundles") / str(slope) for slope in (0, 2, 3)]
    digests = [small.made(folder, float(folder.name)) for folder in folders]
    return [(f, small.pin(d, n + 1)) for n, (f, d) in enumerate(zip(folders, digests, strict=True))]


@pytest.fixture
def azure(monkeypatch: pytest.MonkeyPatch) -> Iterator[Azure]:
    forget(monkeypatch)
    with Azure() as azure:
        for name, value in azure.environment().items():
            monkeypatch.setenv(name, value)
        yield azure


def forget(monkeypatch: pytest.MonkeyPatch) -> None:
    """Begin as a new process does."""
    monkeypatch.setattr(arm, "PAUSE", 0.0)
    arm.signed_in.cache_clear()
    azureml.reached.cache_clear()


def deploy(one: tuple[Path, Pin]) -> str:
    azureml.deploy(HERE, one[1], one[0])
    return one[1].digest


def test_the_first_bundle_has_all_of_the_traffic_and_the_next_one_none(azure, bundles):
    first = deploy(bundles[0])
    assert azureml.current(HERE) == Running({first: 100})
    second = deploy(bundles[1])
    assert azureml.current(HERE) == Running({first: 100, second: 0})
    assert azureml.current(HERE).address == f"{azure.url}/score/{NAME}"


def test_traffic_moves_in_steps_and_back(azure, bundles):
    first, second = deploy(bundles[0]), deploy(bundles[1])
    for share in (10, 50, 100):
        azureml.traffic(HERE, {first: 100 - share, second: share})
        assert azureml.current(HERE).traffic == {first: 100 - share, second: share}
    azureml.traffic(HERE, {first: 100, second: 0})
    assert azure.traffic(NAME) == {name_of(first): 100, name_of(second): 0}


def test_what_was_done_is_not_done_again(azure, bundles):
    first, second = deploy(bundles[0]), deploy(bundles[1])
    azureml.traffic(HERE, {first: 90, second: 10})
    azureml.note(HERE, "why")
    before = len(azure.log)
    deploy(bundles[1])
    azureml.traffic(HERE, {first: 90, second: 10})
    azureml.note(HERE, "why")
    assert not [line for line in azure.log[before:] if line.startswith(("PUT", "DELETE"))]
    assert azureml.current(HERE) == Running({first: 90, second: 10}, "why")


def test_the_last_bundle_takes_the_endpoint_with_it(azure, bundles):
    first, second = deploy(bundles[0]), deploy(bundles[1])
    azureml.traffic(HERE, {first: 0, second: 100})
    azureml.remove(HERE, first)
    azureml.remove(HERE, first)
    assert azureml.current(HERE) == Running({second: 100})
    azureml.remove(HERE, second)
    azureml.remove(HERE, second)
    assert azureml.current(HERE) == Running({})
    assert not [path for path in azure.resources if "ndpoints/" in path]


def test_what_answers_requests_is_not_removed(azure, bundles):
    first, _ = deploy(bundles[0]), deploy(bundles[1])
    with pytest.raises(UserError, match=r"answers 100 % of the requests in Azure ML, expected 0"):
        azureml.remove(HERE, first)


def test_one_bundle_gets_a_copy_of_the_requests(azure, bundles):
    first, second, third = (deploy(one) for one in bundles)
    azureml.traffic(HERE, {first: 100}, {second: 20})
    endpoint = azure.resources[f"{WORKSPACE}/onlineEndpoints/{NAME}"]["properties"]
    assert endpoint["mirrorTraffic"] == {name_of(second): 20}
    azureml.traffic(HERE, {first: 100}, {second: 100})
    endpoint = azure.resources[f"{WORKSPACE}/onlineEndpoints/{NAME}"]["properties"]
    assert endpoint["mirrorTraffic"] == {name_of(second): 50}
    with pytest.raises(UserError, match="mirrored to 2 bundles, expected at most one"):
        azureml.traffic(HERE, {first: 100}, {second: 10, third: 10})
    azureml.traffic(HERE, {first: 90, second: 10})
    assert not azure.resources[f"{WORKSPACE}/onlineEndpoints/{NAME}"]["properties"]["mirrorTraffic"]


def test_the_batch_endpoint_follows_all_of_the_traffic(azure, bundles):
    first, second = deploy(bundles[0]), deploy(bundles[1])
    path = f"{WORKSPACE}/batchEndpoints/{NAME}-batch"
    assert azure.resources[path]["properties"]["defaults"] == {"deploymentName": name_of(first)}
    azureml.traffic(HERE, {first: 50, second: 50})
    assert azure.resources[path]["properties"]["defaults"] == {"deploymentName": name_of(first)}
    azureml.traffic(HERE, {first: 0, second: 100})
    assert azure.resources[path]["properties"]["defaults"] == {"deploymentName": name_of(second)}


def test_a_bundle_that_arrived_otherwise_is_not_deployed(azure, bundles, tmp_path):
    first = deploy(bundles[0])
    other = tmp_path / "other"
    small.made(other, 9.0)
    pin = bundles[1][1]
    with pytest.raises(UserError, match=rf"{name_of(pin.digest)} serves \w+, expected"):
        azureml.deploy(HERE, pin, other)
    assert azureml.current(HERE) == Running({first: 100})


def test_a_bundle_that_scores_otherwise_is_not_deployed(azure, bundles, monkeypatch):
    first = deploy(bundles[0])
    said = Fault("POST /score", 200, {"predictions": [{"probability": 0.5}] * 20})
    azure.faults.append(said)
    with pytest.raises(UserError, match="reference rows score .* off"):
        deploy(bundles[1])
    assert azureml.current(HERE) == Running({first: 100})


def test_quota_is_told_in_one_line_and_the_next_run_goes_on(azure, bundles):
    first = deploy(bundles[0])
    azure.failure = {"code": "OutOfQuota", "message": "Not enough quota\navailable for DS3_v2."}
    with pytest.raises(UserError) as error:
        deploy(bundles[1])
    assert str(error.value).count("\n") == 0
    assert "OutOfQuota: Not enough quota available for DS3_v2.; ask for more under" in str(
        error.value
    )
    assert azureml.current(HERE) == Running({first: 100})
    second = deploy(bundles[1])
    assert azureml.current(HERE) == Running({first: 100, second: 0})


@pytest.mark.parametrize(
    ("fault", "line"),
    [
        (Fault(r"GET .*/work$", 401, {"error": {"code": "InvalidToken", "message": "Expired."}}),
         "azure-identity: Azure does not accept the token (InvalidToken: Expired.); `az login`"),
        (Fault(r"PUT .*onlineEndpoints/[^/]+$", 403, {"error": {"code": "AuthorizationFailed",
               "message": "No authorization."}}),
         "Azure ML: may not create the endpoint flights-late (AuthorizationFailed: No "
         "authorization.); whoever runs this needs the role 'AzureML Data Scientist'"),
        (Fault(r"PUT /container/.*", 403, "<Error/>"),
         "Azure ML: may not upload bundle.json to account (403 Forbidden); whoever runs this "
         "needs the role 'Storage Blob Data Contributor'"),
        (Fault(r"PUT .*onlineEndpoints/[^/]+$", 400, {"error": {"code": "BadRequest", "message":
               "Bad.", "details": [{"code": "QuotaExceeded", "message": "No more endpoints."}]}}),
         "Azure ML: could not create the endpoint flights-late: QuotaExceeded: No more endpoints.; "
         "ask for more under Quotas, or take another instance_type in "
         "infra/azureml/deployment.yaml"),
    ],
    ids=["token", "role", "storage", "quota"],
)  # fmt: skip
def test_what_azure_refuses_is_one_line(azure, bundles, fault, line):
    azure.faults.append(fault)
    with pytest.raises(UserError) as error:
        deploy(bundles[0])
    assert str(error.value) == line


def test_nobody_signed_in_is_one_line(azure, bundles):
    azure.faults.append(Fault("GET /msi/token", 400, {"message": "no identity"}))
    with pytest.raises(UserError, match="azure-identity: found nobody signed in") as error:
        deploy(bundles[0])
    assert "\n" not in str(error.value)


def test_a_busy_azure_is_waited_for(azure, bundles):
    first = deploy(bundles[0])
    azure.faults += [
        Fault("GET", 429, {"error": {"code": "TooManyRequests"}}, {"Retry-After": "0"}),
        Fault("PUT .*onlineEndpoints/[^/]+$", 409, {"error": {"code": "Conflict"}}, times=2),
    ]
    azureml.note(HERE, "busy")
    assert azureml.current(HERE) == Running({first: 100}, "busy")
    assert not [fault for fault in azure.faults if fault.times]


def test_a_token_goes_to_no_other_host(azure, bundles):
    elsewhere = {"Azure-AsyncOperation": "https://elsewhere.example/operations/1"}
    azure.faults.append(Fault("PUT .*onlineEndpoints/[^/]+$", 201, {}, elsewhere))
    with pytest.raises(UserError, match="sends on to elsewhere.example, expected 127.0.0.1"):
        deploy(bundles[0])


def test_health_is_what_azure_monitor_counted(azure, bundles):
    first = deploy(bundles[0])

    def series(kind: str, *values: float) -> Any:
        dimension = [{"name": {"value": "envoy_response_code"}, "value": kind}] if kind else []
        data = [{"timeStamp": "2026-11-20T10:00:00Z", "average": value} for value in values]
        return {"metadatavalues": dimension, "data": data}

    name = name_of(first)
    azure.measured[name, "RequestsPerMinute"] = [
        series("200", 60, 30), series("503", 2, 0), series("0", 1), series("422", 7)
    ]  # fmt: skip
    azure.measured[name, "RequestLatency_P95"] = [series("", 20.0, 0.0, 40.0)]
    found = azureml.health(HERE, first)
    assert (found.requests, found.errors, found.scores) == (100, 3, ())
    assert found.seconds == pytest.approx(0.030)


def test_a_bundle_is_asked_whatever_its_share(azure, bundles):
    _, second = deploy(bundles[0]), deploy(bundles[1])
    found = azureml.ask(HERE, second, [{"x": 0.0, "z": 0.0}, {"x": 1.0, "z": 0.0}])
    assert found.scores == pytest.approx((0.5, 0.8808), abs=1e-4)
    asked = len([line for line in azure.log if "listKeys" in line])
    azureml.ask(HERE, second, [{"x": 0.0, "z": 0.0}])
    assert len([line for line in azure.log if "listKeys" in line]) == asked
    azure.faults.append(Fault("POST /score", 503))
    assert azureml.ask(HERE, second, [{"x": 0.0, "z": 0.0}]).scores == ()


def test_what_nobody_pinned_is_not_overlooked(azure, bundles):
    first = deploy(bundles[0])
    place = f"{WORKSPACE}/onlineEndpoints/{NAME}"
    azure.resources[f"{place}/deployments/blue"] = {
        "name": "blue", "properties": {"provisioningState": "Succeeded"}
    }  # fmt: skip
    azure.resources[place]["properties"]["traffic"] = {name_of(first): 60, "blue": 40}
    with pytest.raises(UserError, match="deployment 'blue' answers requests"):
        azureml.current(HERE)


def test_a_model_of_other_bytes_is_not_taken_for_this_one(azure, bundles):
    first = deploy(bundles[0])
    model = f"{WORKSPACE}/models/small-bundle/versions/{first[:12]}"
    azure.resources[model]["properties"]["properties"]["mlops.bundle"] = "0" * 64
    with pytest.raises(UserError, match="mounts 000000000000, expected"):
        azureml.current(HERE)


def test_a_rollout_takes_over_in_steps_and_is_undone(azure, bundles):
    story.told(azureml, HERE, bundles)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_run_that_was_killed_anywhere_is_finished_by_the_next(monkeypatch, bundles, after):
    forget(monkeypatch)

    def rollout() -> None:
        first, second = deploy(bundles[0]), deploy(bundles[1])
        azureml.traffic(HERE, {first: 90, second: 10}, {})
        azureml.note(HERE, "at 10 %")
        azureml.traffic(HERE, {first: 0, second: 100})
        azureml.remove(HERE, first)

    number, ended = 2 if after else 1, False
    while not ended:
        with Azure(polls=3) as azure:
            for name, value in azure.environment().items():
                monkeypatch.setenv(name, value)
            try:
                with killed(monkeypatch, number, after):
                    rollout()
                ended = True
            except Killed:
                second = bundles[1][1].digest
                if azureml.current(HERE).traffic.get(second) != 100:
                    rollout()
                azureml.remove(HERE, bundles[0][1].digest)
                azureml.note(HERE, "at 10 %")
            assert azureml.current(HERE) == Running({bundles[1][1].digest: 100}, "at 10 %")
            assert all(
                found["properties"].get("provisioningState", "Succeeded") == "Succeeded"
                for found in azure.resources.values()
            )
        number += 4
    assert number > 60


@pytest.mark.parametrize(
    ("variable", "value", "line"),
    [
        ("AZUREML_ARM_WORKSPACE_NAME", "", "AZUREML_ARM_WORKSPACE_NAME: found '', expected where"),
        ("MLOPS_SERVING_IMAGE", "mlops-serving:latest", "expected NAME@sha256:DIGEST"),
        ("AZURE_RESOURCE_MANAGER_URL", "nowhere", "AZURE_RESOURCE_MANAGER_URL: nowhere: not a URL"),
    ],
)
def test_what_is_not_said_is_told_in_one_line(azure, bundles, monkeypatch, variable, value, line):
    monkeypatch.setenv(variable, value)
    with pytest.raises(UserError) as error:
        deploy(bundles[0])
    assert line in str(error.value)
    assert "\n" not in str(error.value)
