"""Databricks Model Serving as a target: Databricks' own SDK against a REST API in this process."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from mlops.base.errors import UserError
from mlops.deploy import databricks, prometheus, smoke_test
from mlops.deploy.databricks import endpoint as databricks_endpoint
from mlops.deploy.rollout import roll_out
from mlops.deploy.specification import name_of
from mlops.deploy.target import Endpoint, Running
from mlops.registry.pin import Pin
from tests.conftest import REPOSITORY
from tests.mlops.deploy import small, story
from tests.mlops.deploy.cloud import Fault, Killed, killed
from tests.mlops.deploy.databricks_server import API, Databricks

NAME, MODEL = "flights-late", "main.mlops.flights_late"
ENDPOINT = Endpoint("staging", NAME, REPOSITORY)
ROW = {"x": 0.0, "z": 0.0}


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Path, Pin]]:
    """Three bundles with their pins."""
    folders = [tmp_path_factory.mktemp("bundles") / str(slope) for slope in (0, 2, 3)]
    digests = [small.made(folder, float(folder.name)) for folder in folders]
    return [
        (folder, small.pin(digest, number + 1, MODEL))
        for number, (folder, digest) in enumerate(zip(folders, digests, strict=True))
    ]


@pytest.fixture
def workspace(monkeypatch: pytest.MonkeyPatch, bundles) -> Iterator[Databricks]:
    with Databricks() as workspace:
        prepare(workspace, monkeypatch, bundles)
        yield workspace
    databricks_endpoint.client.cache_clear()


def prepare(workspace: Databricks, monkeypatch: pytest.MonkeyPatch, bundles) -> None:
    """Point the SDK at the workspace, where the bundles are registered; its waits take no time."""
    monkeypatch.setattr(time, "sleep", lambda _: None)
    databricks_endpoint.client.cache_clear()
    for name, value in workspace.environment().items():
        monkeypatch.setenv(name, value)
    for folder, pin in bundles:
        workspace.register(MODEL, pin.version, folder)


def deploy(bundle: tuple[Path, Pin]) -> str:
    databricks.deploy(ENDPOINT, bundle[1], bundle[0])
    return bundle[1].digest


@pytest.fixture
def both(workspace, bundles) -> tuple[str, str]:
    """Two deployed bundles' digests; the first has all of the traffic."""
    return deploy(bundles[0]), deploy(bundles[1])


def changes(workspace: Databricks) -> list[str]:
    return [line for line in workspace.log if line.startswith(("PUT", "PATCH", "DELETE"))
            or line == f"POST {API}"]  # fmt: skip


def test_the_first_version_has_all_of_the_traffic_and_the_next_one_none(workspace, bundles):
    first = deploy(bundles[0])
    assert databricks.current(ENDPOINT) == Running({first: 100})
    second = deploy(bundles[1])
    assert databricks.current(ENDPOINT) == Running({first: 100, second: 0})
    address = f"{workspace.url}/serving-endpoints/{NAME}/invocations"
    assert databricks.current(ENDPOINT).address == address


def test_traffic_moves_in_steps_and_back(workspace, both):
    first, second = both
    for share in (10, 50, 100):
        databricks.traffic(ENDPOINT, {first: 100 - share, second: share})
        assert databricks.current(ENDPOINT).traffic == {first: 100 - share, second: share}
    databricks.traffic(ENDPOINT, {first: 100})
    assert workspace.shares(NAME) == {name_of(first): 100, name_of(second): 0}


def test_repeated_calls_change_nothing(workspace, bundles, both):
    first, second = both
    databricks.traffic(ENDPOINT, {first: 90, second: 10})
    databricks.note(ENDPOINT, "why")
    before = changes(workspace)
    deploy(bundles[1])
    databricks.traffic(ENDPOINT, {first: 90, second: 10})
    databricks.note(ENDPOINT, "why")
    assert changes(workspace) == before
    assert databricks.current(ENDPOINT) == Running({first: 90, second: 10}, "why")
    databricks.note(ENDPOINT, "")
    assert databricks.current(ENDPOINT).note == ""


def test_the_last_version_takes_the_endpoint_with_it(workspace, both):
    first, second = both
    with pytest.raises(UserError, match=r"answers 100 % of the requests in Databricks"):
        databricks.remove(ENDPOINT, first)
    databricks.traffic(ENDPOINT, {second: 100})
    for _ in range(2):
        databricks.remove(ENDPOINT, first)
        assert databricks.current(ENDPOINT) == Running({second: 100})
    for _ in range(2):
        databricks.remove(ENDPOINT, second)
        assert databricks.current(ENDPOINT) == Running({})
    assert not workspace.endpoints


def test_an_entity_keeps_all_of_its_settings_when_another_joins(workspace, bundles, tmp_path):
    """The platform takes a configuration as a whole: what is not sent again is lost."""
    file = tmp_path / databricks.SPECIFICATION
    file.parent.mkdir(parents=True)
    own = "\nburst_scaling_enabled: false\nmin_provisioned_concurrency: 4\n"
    file.write_text((REPOSITORY / databricks.SPECIFICATION).read_text() + own)
    for folder, pin in bundles[:2]:
        databricks.deploy(Endpoint("staging", NAME, tmp_path), pin, folder)
    for entity in workspace.endpoints[NAME]["config"]["served_entities"]:
        assert entity["burst_scaling_enabled"] is False
        assert entity["min_provisioned_concurrency"] == 4


def test_a_version_of_another_bundle_is_neither_served_nor_taken_for_what_is_pinned(
    workspace, bundles
):
    tags = workspace.versions[MODEL, "1"][1]
    digest, tags["mlops.bundle"] = tags["mlops.bundle"], "0" * 64
    message = r"version 1: found tag mlops.bundle='0{12}', expected"
    with pytest.raises(UserError, match=message):
        deploy(bundles[0])
    assert not workspace.endpoints
    tags["mlops.bundle"] = digest
    deploy(bundles[0])
    tags["mlops.bundle"] = "0" * 64
    with pytest.raises(UserError, match=message):
        databricks.current(ENDPOINT)


def test_a_version_with_other_scores_is_not_served(workspace, bundles):
    first = deploy(bundles[0])
    tags = workspace.versions[MODEL, "2"][1]
    workspace.versions[MODEL, "2"] = bundles[2][0], tags
    with pytest.raises(UserError, match="reference rows score .* off"):
        deploy(bundles[1])
    assert databricks.current(ENDPOINT) == Running({first: 100})


def test_a_served_version_is_not_withdrawn_because_of_one_failed_answer(workspace, bundles):
    first = deploy(bundles[0])
    workspace.faults.append(Fault("POST .*/invocations", 400, {"message": "Timed out."}))
    with pytest.raises(UserError, match="Timed out"):
        deploy(bundles[0])
    assert databricks.current(ENDPOINT) == Running({first: 100})


def test_a_failed_change_is_one_line_and_the_next_run_goes_on(workspace, bundles):
    first = deploy(bundles[0])
    workspace.failure = "Workspace concurrency\nquota exceeded."
    with pytest.raises(UserError) as error:
        deploy(bundles[1])
    assert str(error.value) == (
        f"Databricks: could not serve {name_of(bundles[1][1].digest)} behind flights-late: "
        "Workspace concurrency quota exceeded."
    )
    assert databricks.current(ENDPOINT) == Running({first: 100})
    second = deploy(bundles[1])
    assert databricks.current(ENDPOINT) == Running({first: 100, second: 0})


def test_an_endpoint_that_failed_at_first_is_repaired_by_the_next_run(workspace, bundles):
    workspace.failure = "No capacity."
    with pytest.raises(UserError, match=r"create the endpoint flights-late: No capacity\."):
        deploy(bundles[0])
    first = deploy(bundles[0])
    assert databricks.current(ENDPOINT) == Running({first: 100})


@pytest.mark.parametrize(
    ("fault", "line"),
    [
        (Fault("GET /api", 401, {"error_code": "UNAUTHENTICATED", "message": "Token expired."}),
         "DATABRICKS_TOKEN: Databricks does not accept it (Token expired. Config: host="),
        (Fault(f"POST {API}$", 403, {"error_code": "PERMISSION_DENIED", "message": "Not you."}),
         "Databricks: may not create the endpoint flights-late (Not you. Config: host="),
        (Fault(f"POST {API}$", 400, {"error_code": "RESOURCE_LIMIT_EXCEEDED",
                                     "message": "At most\n50 endpoints."}),
         "Databricks: could not create the endpoint flights-late: At most 50 endpoints."),
        (Fault(f"POST {API}$", 502, "<html>Bad Gateway</html>"),
         "Databricks: could not create the endpoint flights-late: "),
        (Fault("GET /api", 0, times=10_000_000),
         "Databricks: could not read version 1 of main.mlops.flights_late: "),
        (Fault(f"GET {API}", 503, {"message": "Busy."}, times=10_000_000),
         "Databricks: could not find the endpoint flights-late: Busy.; run it again, it goes on "
         "from there"),
    ],
    ids=["token", "permission", "quota", "gateway", "no answer", "busy"],
)  # fmt: skip
def test_what_databricks_refuses_is_one_line_without_the_token(
    workspace, bundles, fault, line, monkeypatch
):
    monkeypatch.setattr(databricks_endpoint, "RETRY_SECONDS", 1)
    workspace.faults.append(fault)
    with pytest.raises(UserError) as error:
        deploy(bundles[0])
    assert str(error.value).startswith(line)
    assert "\n" not in str(error.value)
    assert "the-owners" not in str(error.value)


def test_a_change_that_never_ends_is_one_line(workspace, bundles, monkeypatch):
    workspace.looks = 10_000_000
    monkeypatch.setattr(databricks_endpoint, "LONGEST_CHANGE", timedelta(seconds=1))
    with pytest.raises(UserError, match="create the endpoint .*: timed out after 0:00:01"):
        deploy(bundles[0])


def test_a_busy_databricks_is_waited_for(workspace, both):
    first, second = both
    workspace.faults += [
        Fault("GET", 429, {"message": "Slow down."}, {"Retry-After": "0"}),
        Fault("GET", 0),
        Fault("PUT", 503, {"message": "Busy."}, times=2),
    ]
    databricks.traffic(ENDPOINT, {first: 50, second: 50})
    assert databricks.current(ENDPOINT).traffic == {first: 50, second: 50}


def test_health_is_what_the_last_minute_was(workspace, both):
    first, second = both

    def lines(name: str, requests: int, errors: int, buckets: dict[str, int]) -> str:
        labels = f'endpoint_name="{NAME}",served_model_name="{name}"'
        times = [f'request_latency_ms_bucket{{{labels},le="{le}"}} {count} 1700000000000'
                 for le, count in buckets.items()]  # fmt: skip
        return "\n".join([
            "# TYPE request_count_total gauge",
            f"request_count_total{{{labels}}} {requests} 1700000000000",
            "# TYPE request_5xx_count_total gauge",
            f"request_5xx_count_total{{{labels}}} {errors} 1700000000000",
            "# TYPE request_latency_ms histogram", *times, "",
        ])  # fmt: skip

    workspace.exported = lines(name_of(first), 200, 1, {"50": 100, "100": 200, "+Inf": 200})
    workspace.exported += lines(name_of(second), 20, 3, {"10": 20, "+Inf": 20})
    health = databricks.health(ENDPOINT, first)
    assert (health.requests, health.errors, health.scores) == (200, 1, ())
    assert health.seconds == pytest.approx(0.095)
    assert databricks.health(ENDPOINT, second).errors == 3


def test_a_quantile_lies_within_its_bucket():
    assert prometheus.quantile(0.95, {}) == 0.0
    assert prometheus.quantile(0.5, {1.0: 10, 2.0: 20, float("inf"): 20}) == pytest.approx(1.0)
    assert prometheus.quantile(0.95, {1.0: 10, float("inf"): 20}) == 1.0


def test_a_version_scores_whatever_its_share(both):
    answer = databricks.ask(ENDPOINT, both[1], [ROW, {"x": 1.0, "z": 0.0}])
    assert answer.scores == pytest.approx((0.5, 0.8808), abs=1e-4)
    assert databricks.ask(ENDPOINT, "f" * 64, [ROW]).scores == ()


def test_traffic_to_what_nobody_pinned_is_an_error(workspace, bundles):
    deploy(bundles[0])
    del workspace.endpoints[NAME]["config"]["served_entities"][0]["environment_vars"]
    with pytest.raises(UserError, match="is none of a bundle's"):
        databricks.current(ENDPOINT)


def test_a_name_that_unity_catalog_does_not_have_is_refused(workspace, bundles):
    folder, pin = bundles[0]
    with pytest.raises(UserError, match="found 'flights-late', expected CATALOG.SCHEMA.NAME"):
        databricks.deploy(ENDPOINT, pin.model_copy(update={"model": "flights-late"}), folder)


def test_an_unknown_key_of_the_specification_is_refused(workspace, bundles, tmp_path):
    file = tmp_path / databricks.SPECIFICATION
    file.parent.mkdir(parents=True)
    file.write_text("workload_sise: Small\n")
    with pytest.raises(
        UserError, match="unknown key 'workload_sise'; did you mean 'workload_size'"
    ):
        databricks.deploy(Endpoint("staging", NAME, tmp_path), bundles[0][1], bundles[0][0])


def test_nobody_signed_in_is_one_line(workspace, bundles, monkeypatch, tmp_path):
    monkeypatch.delenv("DATABRICKS_TOKEN")
    monkeypatch.setenv("DATABRICKS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("DATABRICKS_AUTH_TYPE", "pat")
    with pytest.raises(UserError, match="DATABRICKS_HOST: found nobody signed in") as error:
        deploy(bundles[0])
    assert "\n" not in str(error.value)


def test_a_profile_of_databricks_tools_is_used(workspace, monkeypatch, tmp_path):
    monkeypatch.delenv("DATABRICKS_TOKEN")
    monkeypatch.delenv("DATABRICKS_HOST")
    profile = tmp_path / "profile"
    profile.write_text(f"[DEFAULT]\nhost = {workspace.url}\ntoken = the-owners\n")
    monkeypatch.setenv("DATABRICKS_CONFIG_FILE", str(profile))
    assert databricks.current(ENDPOINT) == Running({})


@pytest.mark.slow
def test_mlflows_own_scoring_server_passes_the_smoke_test(bundles, tmp_path):
    """Databricks serves the MLflow model: what is registered must load and score there."""
    import mlflow
    import onnx
    from fastapi.testclient import TestClient
    from mlflow.pyfunc import scoring_server

    from mlops.contract import bundle
    from mlops.registry import register

    folder, pin = bundles[1]
    model = onnx.load(folder / bundle.MODEL)
    signature = register._signature(bundle.read_card(folder))
    mlflow.onnx.save_model(
        model, tmp_path / "model", signature=signature, pip_requirements=["onnxruntime"]
    )
    client = TestClient(scoring_server.init(mlflow.pyfunc.load_model(str(tmp_path / "model"))))

    def score(rows):
        return client.post("/invocations", json={"dataframe_records": rows}).json()

    smoke_test.passes(folder, pin.digest, "MLflow", score)


def test_a_rollout_takes_over_in_steps_and_is_undone(workspace, bundles):
    story.takes_over(databricks, ENDPOINT, bundles)


def test_a_rollout_with_a_shadow_is_refused_and_changes_nothing(workspace, bundles):
    first = deploy(bundles[0])
    folder, pin = bundles[1]
    wanted = story.rollout().model_copy(update={"shadow": True})
    with pytest.raises(UserError, match=r"rollout.shadow: found true, expected false"):
        list(roll_out(databricks, ENDPOINT, pin, folder, wanted))
    assert workspace.shares(NAME)[name_of(first)] == 100


@pytest.mark.nightly
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_run_that_was_killed_anywhere_is_finished_by_the_next(monkeypatch, bundles, after):
    first, second = (pin.digest for _, pin in bundles[:2])

    def rollout() -> None:
        deploy(bundles[0])
        deploy(bundles[1])
        databricks.traffic(ENDPOINT, {first: 90, second: 10})
        databricks.note(ENDPOINT, "at 10 %")
        databricks.traffic(ENDPOINT, {second: 100})
        databricks.remove(ENDPOINT, first)

    number, ended = 1, False
    while not ended:
        with Databricks(looks=3) as workspace:
            prepare(workspace, monkeypatch, bundles)
            try:
                with killed(monkeypatch, number, after):
                    rollout()
                ended = True
            except Killed:
                rollout()
            assert databricks.current(ENDPOINT) == Running({second: 100}, "at 10 %")
            assert set(workspace.shares(NAME)) == {name_of(second)}
        number += 1
    assert number > 20
