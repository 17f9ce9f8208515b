"""What all clouds share, each against its stand-in: the life of an endpoint, and its interruptions.

Azure ML through its SDK in an environment of its own, Databricks through its SDK, Kubernetes
through kubectl.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from mlops.base.errors import Refused, UserError
from mlops.deploy.databricks import endpoint as databricks_endpoint
from mlops.deploy.manifest import Limits, Rollout
from mlops.deploy.rollout import roll_out
from mlops.deploy.target import Running
from tests.mlops.deploy.azure_server import error
from tests.mlops.deploy.cloud import Killed
from tests.mlops.deploy.conftest import HERE, NAME, SLOW
from tests.mlops.deploy.databricks_server import API

ROWS = [{"x": 0.0, "z": 0.0}, {"x": 1.0, "z": 0.0}]


def test_traffic_moves_in_steps_and_back(world, bundles):
    first = world.deploy(bundles[0])
    assert world.current == Running({first: 100})
    second = world.deploy(bundles[1])
    assert world.current == Running({first: 100, second: 0})
    for share in (10, 50, 100, 0):
        world.target.traffic(HERE, {first: 100 - share, second: share})
        assert world.current.traffic == {first: 100 - share, second: share}
    shares = {name: share for name, share in world.shares().items() if share}
    assert shares == {world.name_of(first): 100}
    with pytest.raises(UserError, match=f"{NAME}: .* is not (deployed|served) in {world.place}"):
        world.target.traffic(HERE, {first: 50, "f" * 64: 50})


def test_repeated_calls_change_nothing(world, bundles):
    first, second = world.deploy(*bundles[:2])
    world.target.traffic(HERE, {first: 90, second: 10})
    world.target.note(HERE, "why")
    before = world.written()
    world.deploy(bundles[1])
    world.target.traffic(HERE, {first: 90, second: 10})
    world.target.note(HERE, "why")
    assert world.written() == before
    assert world.current == Running({first: 90, second: 10}, "why")
    world.target.note(HERE, "")
    assert world.current.note == ""


def test_the_last_bundle_takes_the_endpoint_with_it(world, bundles):
    first, second = world.deploy(*bundles[:2])
    line = f"answers 100 % of the requests in {world.place}, expected 0 before it is removed"
    with pytest.raises(UserError, match=line):
        world.target.remove(HERE, first)
    world.target.traffic(HERE, {first: 0, second: 100})
    for digest, left in ((first, {second: 100}), (second, {})):
        for _ in range(2):
            world.target.remove(HERE, digest)
            assert world.current == Running(left)
    assert not world.left()
    with pytest.raises(UserError, match=f"{NAME}: found no such .* `mlops reconcile`"):
        world.target.note(HERE, "why")


LACKING = {
    "Azure ML": "Azure ML: could not create the online deployment {}: OutOfQuota: Not enough quota "
    "left.; ask for more under Quotas, or take another instance_type in "
    "infra/azureml/deployment.yaml",
    "Databricks": f"Databricks: could not serve {{}} behind {NAME}: Not enough quota left.",
    "Kubernetes": "Kubernetes: could not start {}: timed out waiting for the condition: Not enough "
    "quota left.",
}


def test_a_failure_for_want_of_quota_is_one_line_and_the_next_run_goes_on(world, bundles):
    first = world.deploy(bundles[0])
    world.fail("Not enough quota\nleft.")
    with pytest.raises(UserError) as raised:
        world.deploy(bundles[1])
    name = world.name_of(bundles[1][1].digest)
    assert str(raised.value) == LACKING[world.place].format(name)
    assert world.current == Running({first: 100})
    second = world.deploy(bundles[1])
    assert world.current == Running({first: 100, second: 0})


def test_a_bundle_is_asked_whatever_its_share(world, bundles):
    _, second = world.deploy(*bundles[:2])
    for _ in range(2):
        answer = world.target.ask(HERE, second, ROWS)
        assert answer.scores == pytest.approx((0.5, 0.8808), abs=1e-4)
    assert world.target.ask(HERE, "f" * 64, ROWS).scores == ()


def test_traffic_to_what_belongs_to_no_bundle_is_an_error(world, bundles):
    world.deploy(bundles[0])
    world.stranger()
    line = f"answers requests in {world.place}, and belongs to no bundle; take its traffic away"
    with pytest.raises(UserError, match=line):
        assert world.current


def test_a_rollout_takes_over_in_steps_and_the_way_back_is_undone_for_drift(world, bundles):
    """Judged by reference rows alone, and not by latency: a flat bundle, then a steep one."""
    (first, one), (second, two) = bundles[:2]
    steps = (50,) if world.place == "Kubernetes" else (10, 50)

    def rollout(drift: float) -> Rollout:
        limits = Limits(latency=1000.0, drift=drift)
        return Rollout(steps=steps, bake_seconds=0, requests=20, limits=limits)

    assert list(roll_out(world.target, HERE, one, first, rollout(0.2))) == []
    assert world.current == Running({one.digest: 100})
    lines = list(roll_out(world.target, HERE, two, second, rollout(100.0)))
    assert [line.split(" beside")[0] for line in lines[::2]] == [
        f"{two.digest[:12]} answers {percent} %" for percent in steps
    ]
    assert world.current == Running({two.digest: 100})
    reason = f"{one.digest[:12]} undone at {steps[0]} %"
    with pytest.raises(Refused, match=reason):
        list(roll_out(world.target, HERE, one, first, rollout(0.2)))
    assert world.current.traffic == {two.digest: 100}
    assert reason in world.current.note


ENDPOINT = r"PUT .*onlineEndpoints/[^/]+$"
INNER = {"error": {"code": "BadRequest", "message": "Bad.", "details": [
    {"code": "Taken", "message": "The name\nis taken."}]}}  # fmt: skip
REFUSALS: dict[str, list[tuple[Any, ...]]] = {
    "azure": [
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
    "workspace": [
        ("GET /api", 401, {"error_code": "UNAUTHENTICATED", "message": "Token expired."},
         "DATABRICKS_TOKEN: Databricks does not accept it (Token expired. Config: host="),
        (f"POST {API}$", 403, {"error_code": "PERMISSION_DENIED", "message": "Not you."},
         "Databricks: may not create the endpoint flights-late (Not you. Config: host="),
        (f"POST {API}$", 400, {"error_code": "RESOURCE_LIMIT_EXCEEDED", "message": "At\nmost 9."},
         "Databricks: could not create the endpoint flights-late: At most 9."),
        (f"POST {API}$", 502, "<html>Bad Gateway</html>",
         "Databricks: could not create the endpoint flights-late: "),
        ("GET /api", 0, None, {}, 10_000_000,
         "Databricks: could not read version 1 of main.mlops.flights_late: "),
        (f"GET {API}", 503, {"message": "Busy."}, {}, 10_000_000,
         "Databricks: could not find the endpoint flights-late: Busy.; run it again, it goes on "
         "from there"),
    ],
    "cluster": [
        ("apply", 1, 'Error from server (Forbidden): deployments.apps "x" is forbidden: User "ci" '
                  "cannot patch resource",
         'Kubernetes: may not prepare flights-late: (Forbidden): deployments.apps "x" is '
         'forbidden: User "ci" cannot patch resource'),
        ("get", 1, "error: You must be logged in to the server (Unauthorized)",
         "Kubernetes: could not read deployment flights-late-{}: You must be logged in to the "
         "server (Unauthorized); kubectl's credentials are not accepted"),
        ("apply", 1, 'error: resource mapping not found: no matches for kind "HTTPRoute" in '
                     'version "gateway.networking.k8s.io/v1"',
         "Kubernetes: could not prepare flights-late: resource mapping not found: no matches for "
         'kind "HTTPRoute" in version "gateway.networking.k8s.io/v1"; is the Gateway API '
         "installed?"),
    ],
}  # fmt: skip


@pytest.mark.parametrize(
    ("cloud", "refusal"),
    [
        pytest.param(cloud, refusal, marks=() if cloud == "workspace" else SLOW)
        for cloud, refusals in REFUSALS.items()
        for refusal in refusals
    ],
)
def test_a_refusal_is_one_line_without_a_secret(request, bundles, cloud, refusal, monkeypatch):
    monkeypatch.setattr(databricks_endpoint, "RETRY_SECONDS", 1)
    world, (*fault, line) = request.getfixturevalue(cloud), refusal
    world.refuse(*fault)
    with pytest.raises(UserError) as raised:
        world.deploy(bundles[0])
    message = str(raised.value)
    assert line.format(bundles[0][1].digest[:12]) in message
    assert "\n" not in message
    assert "the-owners" not in message


@pytest.mark.slow
@pytest.mark.nightly
@pytest.mark.timeout(1800)
def test_a_run_that_was_killed_at_a_change_is_finished_by_the_next(world, bundles):
    """Before one change, after another one, in turn."""
    first, second = (pin.digest for _, pin in bundles[:2])

    def rollout() -> None:
        world.deploy(*bundles[:2])
        world.target.traffic(HERE, {first: 90, second: 10})
        world.target.note(HERE, "at 10 %")
        world.target.traffic(HERE, {second: 100})
        world.target.remove(HERE, first)

    number, reached = 1, True
    while reached:
        world.reset()
        try:
            with world.killed(number, after=number % 2 == 0) as calls:
                rollout()
        except (Killed, UserError):
            rollout()
        reached = bool(calls)
        assert world.current == Running({second: 100}, "at 10 %")
        # Nothing of the first is left, and nothing half-done.
        assert set(world.shares()) == {world.name_of(second)}
        left = json.dumps(list(world.left()))
        assert first[:12] not in left
        number += world.stride
    assert number > 3 * world.stride
