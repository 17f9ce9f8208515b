"""Azure ML as a target: its SDK, in an environment of its own, against a stand-in for Azure."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mlops.base.errors import UserError
from mlops.deploy import azureml
from mlops.deploy.azureml import sdk
from mlops.deploy.specification import name_of
from mlops.deploy.target import Endpoint, Running
from mlops.registry.pin import Pin
from tests.conftest import REPOSITORY, Shared
from tests.mlops.deploy import small, story
from tests.mlops.deploy.azure_server import WORKSPACE, Azure, error, sdk_python
from tests.mlops.deploy.cloud import Fault

NAME = "flights-late"
HERE = Endpoint("staging", NAME, REPOSITORY)
BATCH = f"{NAME}-batch"

pytestmark = [pytest.mark.slow, pytest.mark.nightly]


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Path, Pin]]:
    """Three bundles with their pins."""
    folders = [tmp_path_factory.mktemp("bundles") / str(slope) for slope in (0, 2, 3)]
    digests = [small.made(folder, float(folder.name)) for folder in folders]
    return [(f, small.pin(d, n + 1)) for n, (f, d) in enumerate(zip(folders, digests, strict=True))]


@pytest.fixture(scope="module")
def server(shared: Shared, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Azure]:
    """The stand-in, and the environment of whoever works with it; one driver serves all tests."""
    with Azure(tmp_path_factory.mktemp("azure")) as azure, pytest.MonkeyPatch.context() as patch:
        patch.setenv(sdk.PYTHON, sdk_python(shared))
        for name, value in azure.environment().items():
            patch.setenv(name, value)
        yield azure
        stop_driver()


@pytest.fixture
def azure(server: Azure) -> Azure:
    """An empty workspace."""
    server.reset()
    azureml._access.cache_clear()
    return server


def stop_driver() -> None:
    process = sdk.connect(REPOSITORY).process
    if process:
        process.kill()
        process.wait()


def deploy(one: tuple[Path, Pin]) -> str:
    azureml.deploy(HERE, one[1], one[0])
    return one[1].digest


def test_the_first_bundle_has_all_of_the_traffic_and_the_next_one_none(azure, bundles):
    first = deploy(bundles[0])
    assert azureml.current(HERE) == Running({first: 100})
    second = deploy(bundles[1])
    assert azureml.current(HERE) == Running({first: 100, second: 0})
    assert azureml.current(HERE).address.endswith(f"/score/{NAME}")


def test_traffic_moves_in_steps_and_back(azure, bundles):
    first, second = deploy(bundles[0]), deploy(bundles[1])
    for share in (10, 50, 100, 0):
        azureml.traffic(HERE, {first: 100 - share, second: share})
        assert azureml.current(HERE).traffic == {first: 100 - share, second: share}
    assert azure.endpoint(NAME)["traffic"] == {name_of(first): 100}


def test_repeated_calls_change_nothing(azure, bundles):
    first, second = deploy(bundles[0]), deploy(bundles[1])
    azureml.traffic(HERE, {first: 90, second: 10})
    azureml.note(HERE, "why")
    before = len(azure.log)
    deploy(bundles[1])
    azureml.traffic(HERE, {first: 90, second: 10})
    azureml.note(HERE, "why")
    assert not [line for line in azure.log[before:] if line.startswith(("PUT", "DELETE"))]
    assert azureml.current(HERE) == Running({first: 90, second: 10}, "why")
    azureml.note(HERE, "")
    assert azureml.current(HERE).note == ""


def test_the_last_bundle_takes_the_endpoints_with_it(azure, bundles):
    first, second = deploy(bundles[0]), deploy(bundles[1])
    with pytest.raises(UserError, match="answers 100 % of the requests in Azure ML, expected 0"):
        azureml.remove(HERE, first)
    azureml.traffic(HERE, {first: 0, second: 100})
    for _ in range(2):
        azureml.remove(HERE, first)
        assert azureml.current(HERE) == Running({second: 100})
    for _ in range(2):
        azureml.remove(HERE, second)
        assert azureml.current(HERE) == Running({})
    assert not [path for path in azure.resources if "ndpoints/" in path]


def test_one_bundle_gets_copies_of_at_most_half_of_the_requests(azure, bundles):
    first, second, third = (deploy(one) for one in bundles)
    for asked, share in ((20, 20), (100, 50)):
        azureml.traffic(HERE, {first: 100}, {second: asked})
        assert azure.endpoint(NAME)["mirrorTraffic"] == {name_of(second): share}
    with pytest.raises(UserError, match="mirrored to 2 bundles, expected at most one"):
        azureml.traffic(HERE, {first: 100}, {second: 10, third: 10})
    azureml.traffic(HERE, {first: 90, second: 10})
    assert not azure.endpoint(NAME)["mirrorTraffic"]


def test_the_batch_endpoint_follows_all_of_the_traffic(azure, bundles):
    first, second = deploy(bundles[0]), deploy(bundles[1])
    for share, default in ((0, first), (50, first), (100, second)):
        azureml.traffic(HERE, {first: 100 - share, second: share})
        defaults = azure.endpoint(BATCH, "batchEndpoints")["defaults"]
        assert defaults == {"deploymentName": name_of(default)}


def test_a_bundle_of_other_bytes_is_not_deployed(azure, bundles, tmp_path):
    first = deploy(bundles[0])
    other = tmp_path / "other"
    small.made(other, 9.0)
    pin = bundles[1][1]
    with pytest.raises(UserError, match=rf"{name_of(pin.digest)} serves \w+, expected"):
        azureml.deploy(HERE, pin, other)
    assert azureml.current(HERE) == Running({first: 100})


def test_a_bundle_that_fails_its_smoke_test_is_not_deployed(azure, bundles):
    first = deploy(bundles[0])
    azure.faults.append(Fault("POST /score", 200, {"predictions": [{"probability": 0.5}] * 20}))
    with pytest.raises(UserError, match="reference rows score .* off"):
        deploy(bundles[1])
    assert azureml.current(HERE) == Running({first: 100})


def test_a_model_of_other_bytes_does_not_pass_for_this_one(azure, bundles):
    first = deploy(bundles[0])
    model = azure.resources[f"{WORKSPACE}/models/small-bundle/versions/{first[:12]}"]
    model["properties"]["properties"]["mlops.bundle"] = "0" * 64
    with pytest.raises(UserError, match="answers requests in Azure ML, and is none of a bundle's"):
        azureml.current(HERE)
    with pytest.raises(UserError, match=f"mlops.bundle: found '0+', expected '{first}'"):
        deploy(bundles[0])


def test_a_deployment_of_somebody_else_is_not_overlooked(azure, bundles):
    first = deploy(bundles[0])
    place = f"{WORKSPACE}/onlineEndpoints/{NAME}"
    deployment = azure.resources[f"{place}/deployments/{name_of(first)}"]
    properties = {**deployment["properties"], "model": None}
    azure.resources[f"{place}/deployments/blue"] = {
        **deployment, "name": "blue", "properties": properties
    }  # fmt: skip
    azure.endpoint(NAME)["traffic"] = {name_of(first): 60, "blue": 40}
    with pytest.raises(UserError, match="blue answers requests"):
        azureml.current(HERE)


def test_a_failure_for_want_of_quota_is_one_line_and_the_next_run_goes_on(azure, bundles):
    first = deploy(bundles[0])
    azure.failure = {"code": "OutOfQuota", "message": "Not enough quota\navailable for DS3_v2."}
    with pytest.raises(UserError) as raised:
        deploy(bundles[1])
    assert str(raised.value) == (
        f"Azure ML: could not create the online deployment {name_of(bundles[1][1].digest)}: "
        "OutOfQuota: Not enough quota available for DS3_v2.; ask for more under Quotas, or take "
        "another instance_type in infra/azureml/deployment.yaml"
    )
    assert azureml.current(HERE) == Running({first: 100})
    second = deploy(bundles[1])
    assert azureml.current(HERE) == Running({first: 100, second: 0})


ENDPOINT = r"PUT .*onlineEndpoints/[^/]+$"
INNER = {"error": {"code": "BadRequest", "message": "Bad.", "details": [
    {"code": "Taken", "message": "The name\nis taken."}]}}  # fmt: skip


@pytest.mark.parametrize(
    ("match", "status", "content", "line"),
    [
        ("GET .*/environments/", 401, error(401, "InvalidToken", "Expired.").content,
         "Azure ML: could not create the environment mlops-serving: InvalidToken: Expired.; sign "
         "in with `az login`, or set AZURE_CLIENT_ID and what goes with it"),
        (ENDPOINT, 403, error(403, "AuthorizationFailed", "No authorization.").content,
         "Azure ML: could not create the online endpoint flights-late: AuthorizationFailed: No "
         "authorization.; whoever runs this needs the role 'AzureML Data Scientist'"),
        ("PUT /container/", 403, "<Error><Code>Denied</Code><Message>No.</Message></Error>",
         "needs the role 'Storage Blob Data Contributor'"),
        (ENDPOINT, 400, INNER,
         "Azure ML: could not create the online endpoint flights-late: Taken: The name is taken."),
    ],
    ids=["token", "role", "storage", "within"],
)  # fmt: skip
def test_a_refusal_is_one_line(azure, bundles, match, status, content, line):
    azure.faults.append(Fault(match, status, content))
    with pytest.raises(UserError) as raised:
        deploy(bundles[0])
    assert str(raised.value).endswith(line)
    assert "\n" not in str(raised.value)


def test_a_busy_azure_is_waited_for(azure, bundles):
    first = deploy(bundles[0])
    azure.faults += [
        Fault("GET", 429, error(429, "TooManyRequests", "").content, {"Retry-After": "0"}),
        Fault(ENDPOINT, 409, error(409, "Conflict", "").content, {"Retry-After": "0"}, times=2),
    ]
    azureml.note(HERE, "busy")
    assert azureml.current(HERE) == Running({first: 100}, "busy")
    assert not [fault for fault in azure.faults if fault.times]


def test_health_is_what_azure_monitor_counted(azure, bundles):
    first = deploy(bundles[0])

    def series(code: str, *values: float) -> Any:
        dimension = [{"name": {"value": "envoy_response_code"}, "value": code}] if code else []
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
    rows = [{"x": 0.0, "z": 0.0}, {"x": 1.0, "z": 0.0}]
    for _ in range(2):
        assert azureml.ask(HERE, second, rows).scores == pytest.approx((0.5, 0.8808), abs=1e-4)
    # The key was read once.
    assert len([line for line in azure.log if "listKeys" in line]) == 1
    azure.faults.append(Fault("POST /score", 503))
    assert azureml.ask(HERE, second, rows).scores == ()


def test_a_rollout_takes_over_in_steps_and_is_undone(azure, bundles):
    story.takes_over(azureml, HERE, bundles)


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_run_that_was_killed_at_any_request_is_finished_by_the_next(azure, bundles, moment):
    first, second = (pin.digest for _, pin in bundles[:2])

    def rollout() -> None:
        deploy(bundles[0])
        deploy(bundles[1])
        azureml.traffic(HERE, {first: 90, second: 10})
        azureml.note(HERE, "at 10 %")
        azureml.traffic(HERE, {second: 100})
        azureml.remove(HERE, first)

    number, ended = 5 if moment == "before" else 14, False
    while not ended:
        azure.reset(polls=3)
        setattr(azure, moment, (number, stop_driver))
        try:
            rollout()
            ended = getattr(azure, moment) is not None
        except UserError:
            rollout()
        assert azureml.current(HERE) == Running({second: 100}, "at 10 %")
        states = {one["properties"].get("provisioningState") for one in azure.resources.values()}
        assert states <= {"Succeeded", None}
        number += 29
    assert number > 80
