"""What is Databricks Model Serving's own: versions of Unity Catalog, its metrics, its profiles."""

from __future__ import annotations

import json
import shutil
from datetime import timedelta

import pytest
import yaml

from mlops.base.errors import UserError
from mlops.deploy import databricks, prometheus, smoke_test
from mlops.deploy.databricks import endpoint as databricks_endpoint
from mlops.deploy.manifest import Rollout
from mlops.deploy.rollout import roll_out
from mlops.deploy.specification import name_of
from mlops.deploy.target import Endpoint, Running
from tests.conftest import REPOSITORY
from tests.mlops.deploy.cloud import Fault
from tests.mlops.deploy.conftest import HERE, MODEL, NAME


@pytest.mark.slow
def test_an_entity_keeps_all_of_its_settings_when_another_joins(workspace, bundles, tmp_path):
    """The platform takes a configuration as a whole: what is not sent again is lost."""
    file = tmp_path / databricks.SPECIFICATION
    file.parent.mkdir(parents=True)
    own = "\nburst_scaling_enabled: false\nmin_provisioned_concurrency: 4\n"
    file.write_text((REPOSITORY / databricks.SPECIFICATION).read_text() + own)
    for folder, pin in bundles[:2]:
        databricks.deploy(Endpoint("staging", NAME, tmp_path), pin, folder)
    for entity in workspace.server.endpoints[NAME]["config"]["served_entities"]:
        assert entity["burst_scaling_enabled"] is False
        assert entity["min_provisioned_concurrency"] == 4


def test_a_version_of_another_bundle_is_neither_served_nor_taken_for_what_is_pinned(
    workspace, bundles
):
    tags = workspace.server.versions[MODEL, "1"][1]
    digest, tags["mlops_bundle"] = tags["mlops_bundle"], "0" * 64
    message = r"version 1: found tag mlops_bundle='0{12}', expected"
    with pytest.raises(UserError, match=message):
        workspace.deploy(bundles[0])
    assert not workspace.left()
    tags["mlops_bundle"] = digest
    workspace.deploy(bundles[0])
    tags["mlops_bundle"] = "0" * 64
    with pytest.raises(UserError, match=message):
        assert workspace.current


def test_a_version_with_other_scores_is_not_served(workspace, bundles):
    first = workspace.deploy(bundles[0])
    tags = workspace.server.versions[MODEL, "2"][1]
    workspace.server.versions[MODEL, "2"] = bundles[2][0], tags
    with pytest.raises(UserError, match="reference rows score .* off"):
        workspace.deploy(bundles[1])
    assert workspace.current == Running({first: 100})


def test_a_served_version_is_not_withdrawn_because_of_one_failed_answer(workspace, bundles):
    first = workspace.deploy(bundles[0])
    workspace.refuse("POST .*/invocations", 400, {"message": "Timed out."})
    with pytest.raises(UserError, match="Timed out"):
        workspace.deploy(bundles[0])
    assert workspace.current == Running({first: 100})


def test_another_registered_model_is_found_and_served_in_place_of_the_first(
    workspace, bundles, tmp_path
):
    (folder, pin), other = bundles[0], "production.models.flights_late"
    workspace.server.versions[other, "5"] = workspace.server.versions[MODEL, "1"]
    copied = pin.model_copy(update={"model": other, "version": 5})
    shutil.copytree(REPOSITORY / "infra/databricks", tmp_path / "infra/databricks")
    endpoint, file = Endpoint("staging", NAME, tmp_path), tmp_path / "environments/staging.yaml"
    file.parent.mkdir()
    head = {"target": "databricks", "endpoint": NAME}
    for model in ({}, {"model": other}):
        text = {**head, **model, "pin": json.loads(pin.model_dump_json())}
        file.write_text(yaml.safe_dump(text, sort_keys=False))
        if not model:
            databricks.deploy(endpoint, pin, folder)
            assert databricks.current(endpoint).outdated == ""
    found = databricks.current(endpoint).outdated
    assert found == f"model: serves {MODEL}, expected {other}"
    # A copy that scores otherwise leaves what was served.
    workspace.server.versions[other, "5"] = bundles[2][0], workspace.server.versions[MODEL, "1"][1]
    with pytest.raises(UserError, match="reference rows score .* off"):
        databricks.deploy(endpoint, copied, folder)
    assert databricks.current(endpoint).outdated == found
    workspace.server.versions[other, "5"] = workspace.server.versions[MODEL, "1"]
    databricks.deploy(endpoint, copied, folder)
    now = databricks.current(endpoint)
    assert (now.traffic, now.outdated) == ({pin.digest: 100}, "")


def test_an_endpoint_that_failed_at_first_is_repaired_by_the_next_run(workspace, bundles):
    workspace.fail("No capacity.")
    with pytest.raises(UserError, match=r"create the endpoint flights-late: No capacity\."):
        workspace.deploy(bundles[0])
    assert workspace.current == Running({workspace.deploy(bundles[0]): 100})
    address = f"{workspace.server.url}/serving-endpoints/{NAME}/invocations"
    assert workspace.current.address == address


def test_a_change_that_never_ends_is_one_line(workspace, bundles, monkeypatch):
    workspace.server.polls = 10_000_000
    monkeypatch.setattr(databricks_endpoint, "LONGEST_CHANGE", timedelta(seconds=1))
    with pytest.raises(UserError, match="create the endpoint .*: timed out after 0:00:01"):
        workspace.deploy(bundles[0])


def test_a_busy_databricks_is_waited_for(workspace, bundles):
    first, second = workspace.deploy(*bundles[:2])
    workspace.server.faults += [
        Fault("GET", 429, {"message": "Slow down."}, {"Retry-After": "0"}),
        Fault("GET", 0),
        Fault("PUT", 503, {"message": "Busy."}, times=2),
    ]
    databricks.traffic(HERE, {first: 50, second: 50})
    assert workspace.current.traffic == {first: 50, second: 50}


def test_health_is_what_the_last_minute_was(workspace, bundles):
    first, second = workspace.deploy(*bundles[:2])

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

    exported = lines(name_of(first), 200, 1, {"50": 100, "100": 200, "+Inf": 200})
    workspace.server.exported = exported + lines(name_of(second), 20, 3, {"10": 20, "+Inf": 20})
    health = databricks.health(HERE, first)
    assert (health.requests, health.errors, health.scores) == (200, 1, ())
    assert health.seconds == pytest.approx(0.095)
    assert databricks.health(HERE, second).errors == 3


@pytest.mark.parametrize(
    ("share", "buckets", "value"),
    [
        (0.95, {}, 0.0),
        (0.5, {1.0: 10, 2.0: 20, float("inf"): 20}, 1.0),
        (0.95, {1.0: 10, float("inf"): 20}, 1.0),
    ],
)
def test_a_quantile_lies_within_its_bucket(share, buckets, value):
    assert prometheus.quantile(share, buckets) == pytest.approx(value)


def test_scores_are_read_by_output_and_tenth():
    text = (
        'mlops_scores_total{output="probability_0",tenth="0.3"} 2.0\n'
        'mlops_scores_total{output="probability_0",tenth="0.9"} 1.0\n'
        'mlops_scores_total{output="probability_1",tenth="0.9"} 7.0\n'
    )
    tenths = prometheus.tenths(prometheus.samples(text), "probability_0")
    assert tenths == (0, 0, 0, 2, 0, 0, 0, 0, 0, 1)
    assert prometheus.tenths(prometheus.samples(text), "prediction") == ()


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("entity_name: flights-late\n", "found 'flights-late', expected CATALOG.SCHEMA.NAME"),
        ("workload_sise: Small\n", "unknown key 'workload_sise'; did you mean 'workload_size'"),
    ],
)
def test_a_wrong_specification_is_refused(workspace, bundles, tmp_path, text, line):
    file = tmp_path / databricks.SPECIFICATION
    file.parent.mkdir(parents=True)
    file.write_text(text)
    with pytest.raises(UserError, match=line):
        databricks.deploy(Endpoint("staging", NAME, tmp_path), bundles[0][1], bundles[0][0])


def test_nobody_signed_in_is_one_line_and_a_profile_of_databricks_tools_is_used(
    workspace, monkeypatch, tmp_path
):
    profile = tmp_path / "profile"
    monkeypatch.setenv("DATABRICKS_CONFIG_FILE", str(profile))
    monkeypatch.delenv("DATABRICKS_TOKEN")
    monkeypatch.setenv("DATABRICKS_AUTH_TYPE", "pat")
    with pytest.raises(UserError, match="DATABRICKS_HOST: found nobody signed in") as error:
        assert workspace.current
    assert "\n" not in str(error.value)
    monkeypatch.delenv("DATABRICKS_HOST")
    profile.write_text(f"[DEFAULT]\nhost = {workspace.server.url}\ntoken = the-owners\n")
    assert workspace.current == Running({})


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


def test_a_rollout_with_a_shadow_is_refused_and_changes_nothing(workspace, bundles):
    first, (folder, pin) = workspace.deploy(bundles[0]), bundles[1]
    wanted = Rollout(bake_seconds=0, shadow=True)
    with pytest.raises(UserError, match=r"rollout.shadow: found true, expected false"):
        list(roll_out(databricks, HERE, pin, folder, wanted))
    assert workspace.shares()[name_of(first)] == 100
