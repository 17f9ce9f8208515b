"""What is Kubernetes' own: pods, their metrics, the route's filters, the cluster's refusals."""

from __future__ import annotations

import re
import shutil

import pytest
import yaml

from mlops.base.errors import UserError
from mlops.deploy import kubernetes
from mlops.deploy.kubernetes import kubectl, objects
from mlops.deploy.target import Endpoint, Running
from tests.conftest import REPOSITORY
from tests.mlops.deploy.conftest import HERE, NAME
from tests.mlops.deploy.kubernetes_objects import FOLDER

pytestmark = [pytest.mark.slow, pytest.mark.nightly]
# A program in kubectl's place: it repeats what it is given, and refuses to delete.
PROGRAM = """#!/bin/sh
case "$*" in
  *logged*) echo 'E1130 23:36:25.9  8356 run.go:72] "command failed" err=<' >&2
    printf '\ta patch\n\tis none\n >\n' >&2; exit 1 ;;
  *away*) echo 'E1130 23:36:25.9  8356 memcache.go:265] "Unhandled Error" err="no list"' >&2
    echo "The server was not found" >&2; exit 1 ;;
  *delete*) echo "Warning: old" >&2; echo "Error from server (Forbidden): forbidden" >&2; exit 1 ;;
  *none*) ;;
  *) cat ;;
esac
"""


def copied(root):
    """The specifications, which a test changes."""
    for name in ("base", "overlays"):
        shutil.copytree(FOLDER / name, root / "infra/kubernetes" / name)


def test_a_bundle_gets_a_copy_of_the_requests(cluster, bundles):
    first, second = cluster.deploy(*bundles[:2])
    kubernetes.traffic(HERE, {first: 100}, {second: 20})
    backend = {"name": cluster.name_of(second), "port": 8080}
    mirror = {"backendRef": backend, "percent": 20}
    for filters in ([{"type": "RequestMirror", "requestMirror": mirror}], []):
        route = cluster.server.objects[f"httproute/{NAME}"]
        assert route["spec"]["rules"][0]["filters"] == filters
        kubernetes.traffic(HERE, {first: 90, second: 10})


@pytest.fixture
def described(tmp_path):
    """An endpoint of a folder of its own, and what writes how old features may be there."""
    copied(tmp_path)
    file = tmp_path / "environments/staging.yaml"
    file.parent.mkdir()

    def write(hours):
        features = {"store": "redis", "features": "FEATURES_URL/trips", "stale_after": hours}
        text = {"target": "kubernetes", "endpoint": NAME, "serving": features, "pin": None}
        file.write_text(yaml.safe_dump(text, sort_keys=False))

    return Endpoint("staging", NAME, tmp_path), write


def test_another_place_of_features_is_found_and_reaches_the_pods(cluster, bundles, described):
    (endpoint, write), (folder, pin) = described, bundles[0]
    write(6)
    kubernetes.deploy(endpoint, pin, folder)
    assert kubernetes.current(endpoint).outdated == ""
    write(9)
    options = "--store redis --features FEATURES_URL/trips --stale-after"
    found = kubernetes.current(endpoint).outdated
    assert found == f"serving: runs with {options} 6, expected {options} 9"
    kubernetes.deploy(endpoint, pin, folder)
    assert kubernetes.current(endpoint) == Running({pin.digest: 100})
    assert kubernetes.current(endpoint).outdated == ""


def test_new_options_that_did_not_reach_all_pods_are_not_done(cluster, bundles, described):
    (endpoint, write), (folder, pin) = described, bundles[0]
    write(6)
    kubernetes.deploy(endpoint, pin, folder)
    write(9)
    cluster.server.quota = "exceeded quota: compute"
    with pytest.raises(UserError, match="exceeded quota"):
        kubernetes.deploy(endpoint, pin, folder)
    # The pod with the old options is available, the specification has the new ones.
    now = kubernetes.current(endpoint)
    assert (now.traffic, now.outdated, now.answers) == ({pin.digest: 100}, "", "no")


def test_a_bundle_answers_once_its_rollout_is_done(cluster, bundles):
    first = cluster.deploy(bundles[0])
    deployment = cluster.server.objects[f"deployment/{cluster.name_of(first)}"]
    before = deployment["status"]
    for status, answers in (
        ({}, "yes"),
        # More pods, as an autoscaler asks for them: none is old.
        ({"replicas": 3, "updatedReplicas": 3, "availableReplicas": 1}, "yes"),
        ({"availableReplicas": 0}, "no"),
        ({"observedGeneration": 0}, "no"),
        ({"replicas": 2}, "no"),
        ({"conditions": [{"type": "Progressing", "status": "True"}]}, "yes"),
        ({"conditions": [{"type": "Progressing", "status": "False"}]}, "no"),
    ):
        deployment["status"] = before | status
        assert cluster.current == Running({first: 100}, answers=answers), status


def test_another_container_beside_the_service_changes_nothing(cluster, bundles, described):
    (endpoint, write), (folder, pin) = described, bundles[0]
    file = endpoint.root / "infra/kubernetes/base/deployment.yaml"
    text = file.read_text()
    other = "      containers:\n        - {name: proxy, image: proxy}\n"
    file.write_text(text.replace("      containers:\n", other))
    write(6)
    kubernetes.deploy(endpoint, pin, folder)
    assert kubernetes.current(endpoint).outdated == ""
    deployment = cluster.server.objects[f"deployment/{cluster.name_of(pin.digest)}"]
    proxy, service = deployment["spec"]["template"]["spec"]["containers"]
    assert ("args" in proxy, "--features" in service["args"]) == (False, True)
    file.write_text(text.replace("name: scoring\n          image", "name: other\n          image"))
    objects.overlay.cache_clear()
    with pytest.raises(UserError) as error:
        kubernetes.deploy(endpoint, pin, folder)
    place = "infra/kubernetes/overlays/staging: Deployment"
    assert str(error.value) == f"{place}: found no container named scoring"


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


def test_a_wrong_variable_is_one_line(cluster, bundles, monkeypatch):
    for variable, value, line in (
        ("MLOPS_SERVING_IMAGE", "mlops-serving:latest", "expected NAME@sha256:DIGEST"),
        *(("MLOPS_BUNDLE_STORE", url, re.escape(f"BUNDLE_STORE: found {url!r}, expected the URL"))
          for url in ("", "https:///x", "https://h:abc/x", "https://h:99999", "https://[::1/x")),
        ("PATH", "/nowhere", "kubectl: not found on the PATH"),
    ):  # fmt: skip
        with monkeypatch.context() as patch:
            patch.setenv(variable, value)
            objects.overlay.cache_clear()
            with pytest.raises(UserError, match=line):
                cluster.deploy(bundles[0])


def test_an_overlay_that_kustomize_refuses_is_said_in_its_words(tmp_path):
    copied(tmp_path)
    (tmp_path / "infra/kubernetes/overlays/staging/egress.yaml").write_text("# No rules.\n")
    with pytest.raises(UserError) as error:
        kubernetes.current(Endpoint("staging", NAME, tmp_path))
    assert str(error.value).startswith("infra/kubernetes/overlays/staging: trouble configuring")
    assert str(error.value).endswith('[path: "egress.yaml"]')


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
    for name, line in (("logged", "a patch is none"), ("away", "The server was not found")):
        with pytest.raises(UserError) as error:
            place.find("deployment", name)
        assert str(error.value) == f"Kubernetes: could not read deployment {name}: {line}"
