"""What is Kubernetes' own: pods, their metrics, the route's filters, the cluster's refusals."""

from __future__ import annotations

import shutil

import pytest
import yaml

from mlops.base.errors import UserError
from mlops.deploy import kubernetes
from mlops.deploy.kubernetes import kubectl
from mlops.deploy.target import Endpoint, Running
from tests.conftest import REPOSITORY
from tests.mlops.deploy.conftest import HERE, NAME

pytestmark = [pytest.mark.slow, pytest.mark.nightly]
# A program in kubectl's place: it repeats what it is given, and refuses to delete.
PROGRAM = """#!/bin/sh
case "$*" in
  *delete*) echo "Warning: old" >&2; echo "Error from server (Forbidden): forbidden" >&2; exit 1 ;;
  *none*) ;;
  *) cat ;;
esac
"""


def test_a_bundle_gets_a_copy_of_the_requests(cluster, bundles):
    first, second = cluster.deploy(*bundles[:2])
    kubernetes.traffic(HERE, {first: 100}, {second: 20})
    backend = {"name": cluster.name_of(second), "port": 8080}
    mirror = {"backendRef": backend, "percent": 20}
    for filters in ([{"type": "RequestMirror", "requestMirror": mirror}], []):
        route = cluster.server.objects[f"httproute/{NAME}"]
        assert route["spec"]["rules"][0]["filters"] == filters
        kubernetes.traffic(HERE, {first: 90, second: 10})


def test_another_place_of_features_is_found_and_reaches_the_pods(cluster, bundles, tmp_path):
    endpoint, (folder, pin) = Endpoint("staging", NAME, tmp_path), bundles[0]
    shutil.copytree(REPOSITORY / "infra/kubernetes", tmp_path / "infra/kubernetes")
    file = tmp_path / "environments/staging.yaml"
    file.parent.mkdir()

    def say(hours):
        features = {"store": "redis", "features": "FEATURES_URL/trips", "stale_after": hours}
        text = {"target": "kubernetes", "endpoint": NAME, "serving": features, "pin": None}
        file.write_text(yaml.safe_dump(text, sort_keys=False))

    say(6)
    kubernetes.deploy(endpoint, pin, folder)
    assert kubernetes.current(endpoint).outdated == ""
    say(9)
    options = "--store redis --features FEATURES_URL/trips --stale-after"
    found = kubernetes.current(endpoint).outdated
    assert found == f"serving: runs with {options} 6, expected {options} 9"
    kubernetes.deploy(endpoint, pin, folder)
    assert kubernetes.current(endpoint) == Running({pin.digest: 100})
    assert kubernetes.current(endpoint).outdated == ""


def test_a_bundle_of_other_bytes_never_starts(cluster, bundles):
    first, (folder, pin) = cluster.deploy(bundles[0]), bundles[1]
    with pytest.raises(UserError) as error:
        cluster.deploy((folder, pin.model_copy(update={"dvc": bundles[0][1].dvc})))
    assert str(error.value) == (
        f"Kubernetes: could not start {cluster.name_of(pin.digest)}: timed out waiting for the "
        f"condition: bundle {pin.digest[:12]}: found digest {first[:12]}"
    )
    assert cluster.current == Running({first: 100})
    assert not [path for path in cluster.left() if pin.digest[:12] in path]


def test_a_lost_connection_is_tried_again_for_a_while(cluster, bundles):
    cluster.deploy(bundles[0])
    place = kubectl.Cluster("mlops-staging", waits=(0.0,) * 3)
    lost = "Unable to connect to the server: dial tcp: connection refused"
    cluster.refuse("get", 1, lost, {}, 2)
    assert place.find("httproute", NAME)
    cluster.refuse("get", 1, lost, {}, 9)
    with pytest.raises(UserError, match=r"connection refused; run it again, nothing is done twice"):
        place.find("httproute", NAME)


def test_health_is_the_sum_of_the_pods_own_metrics(cluster, bundles):
    from mlops.serving.metrics import Metrics

    first = cluster.deploy(bundles[0])
    counted = Metrics()
    for status in (200,) * 97 + (422,) * 2 + (500,):
        counted.answered("invocations", status, 0.004)
    for _ in range(50):
        counted.answered("ready", 503, 0.2)
    counted.scores.labels("probability", "0.3").inc(7)
    cluster.server.metrics[f"{cluster.name_of(first)}-0"] = counted.render().decode()
    health = kubernetes.health(HERE, first)
    assert (health.requests, health.errors) == (100, 1)
    assert 0.0025 < health.seconds <= 0.005
    assert health.scores == (0, 0, 0, 7, 0, 0, 0, 0, 0, 0)


def test_a_bundle_that_is_not_ready_does_not_answer(cluster, bundles):
    first = cluster.deploy(bundles[0])
    deployment = cluster.server.objects[f"deployment/{cluster.name_of(first)}"]
    deployment["status"]["availableReplicas"] = 0
    assert cluster.current == Running({first: 100}, answers="no")


@pytest.mark.parametrize(
    ("variable", "value", "line"),
    [
        ("MLOPS_SERVING_IMAGE", "mlops-serving:latest", "expected NAME@sha256:DIGEST"),
        ("MLOPS_BUNDLE_STORE", "", "MLOPS_BUNDLE_STORE: found '', expected the URL of DVC's"),
        ("PATH", "/nowhere", "kubectl: not found on the PATH"),
    ],
)
def test_a_missing_variable_is_one_line(cluster, bundles, monkeypatch, variable, value, line):
    monkeypatch.setenv(variable, value)
    with pytest.raises(UserError, match=line):
        cluster.deploy(bundles[0])


def test_an_environment_without_an_overlay_is_refused():
    with pytest.raises(UserError, match="infra/kubernetes/overlays/canary: not found"):
        kubernetes.current(Endpoint("canary", NAME, REPOSITORY))


def test_kubectl_is_a_process_that_is_given_text_and_refuses_in_one_line(tmp_path, monkeypatch):
    (tmp_path / "kubectl").write_text(PROGRAM)
    (tmp_path / "kubectl").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    place = kubectl.Cluster("mlops-staging", waits=())
    assert place.request("services/x", "ask it", {"rows": 1}) == '{"rows": 1}'
    assert place.find("deployment", "none") is None
    with pytest.raises(UserError) as error:
        place.delete(["pods"], "a=b")
    assert str(error.value) == "Kubernetes: may not remove what is a=b: (Forbidden): forbidden"
