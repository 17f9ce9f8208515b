"""What is below infra/kubernetes: put together, hardened, and allowed to reach what it needs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from mlops.base.errors import UserError
from mlops.deploy import manifest
from mlops.deploy.kubernetes import objects
from mlops.deploy.target import Endpoint
from mlops.serving import settings
from tests.conftest import REPOSITORY
from tests.mlops.deploy import small
from tests.mlops.deploy.conftest import IMAGE
from tests.mlops.deploy.kubernetes_objects import OVERLAYS, at, pods, rendered

CONTAINER = {
    "securityContext.allowPrivilegeEscalation": False,
    "securityContext.readOnlyRootFilesystem": True,
    "securityContext.capabilities": {"drop": ["ALL"]},
}
POD = {
    "automountServiceAccountToken": False,
    "securityContext.runAsNonRoot": True,
    "securityContext.runAsUser": 10001,
    "securityContext.seccompProfile": {"type": "RuntimeDefault"},
}


def test_no_placeholder_is_left(environment, sent):
    placeholders = {"scoring-bundle", "mlops-serving", "bundle-digest", "bundle-version",
             "bundle-content", "bundle-store", "scoring-fetch"}  # fmt: skip
    for document in sent(environment):
        left = placeholders & set(json.dumps(document).split('"'))
        # The secret that may hold the store's signature is called so.
        assert left <= {"bundle-store"}, document["kind"]
        assert document["metadata"]["namespace"] == f"mlops-{environment}"
        assert document["metadata"]["labels"][objects.PART] == "flights-late"


def test_objects_refer_to_each_other_by_name(environment, sent):
    named = {(one["kind"], one["metadata"]["name"]): one for one in sent(environment)}
    for name in [name for kind, name in named if kind == "Deployment"]:
        deployment = named["Deployment", name]
        pod = deployment["spec"]["template"]
        labels = pod["metadata"]["labels"].items()
        assert named["HorizontalPodAutoscaler", name]["spec"]["scaleTargetRef"]["name"] == name
        for kind, owner, path in (
            ("Deployment", name, "spec.selector.matchLabels"),
            ("Service", name, "spec.selector"),
            ("PodDisruptionBudget", name, "spec.selector.matchLabels"),
            ("NetworkPolicy", "flights-late", "spec.podSelector.matchLabels"),
        ):
            assert at(named[kind, owner], path).items() <= labels
        assert ("ServiceAccount", pod["spec"]["serviceAccountName"]) in named
        maps = [v["configMap"]["name"] for v in pod["spec"]["volumes"] if "configMap" in v]
        assert all(("ConfigMap", mounted) in named for mounted in maps)
    rule = named["HTTPRoute", "flights-late"]["spec"]["rules"][0]
    backends = [*rule["backendRefs"], at(rule, "filters.0.requestMirror.backendRef")]
    assert all(("Service", backend["name"]) in named for backend in backends)


@pytest.mark.parametrize("environment", [*OVERLAYS, "kserve"])
def test_pods_are_hardened(environment, sent):
    kserve = environment == "kserve"
    documents = rendered("kserve") if kserve else sent(environment)
    assert pods(documents)
    for pod in pods(documents):
        assert {path: at(pod, path) for path in POD} == POD
        for container in [*pod["initContainers"], *pod["containers"]]:
            assert {path: at(container, path) for path in CONTAINER} == CONTAINER
            assert container["resources"]["limits"]["memory"]
            assert container["resources"]["requests"].keys() == {"cpu", "memory"}
            assert kserve or container["image"] == IMAGE
        for container in pod["containers"]:
            assert {"livenessProbe", "readinessProbe"} <= container.keys()
    for account in [one for one in documents if one["kind"] == "ServiceAccount"]:
        assert account["automountServiceAccountToken"] is False


def looking_up(root: Path, serving: dict[str, Any]) -> Any:
    """The container of a bundle whose environment looks features up so."""
    (root / manifest.FOLDER).mkdir()
    (root / "infra").symlink_to(REPOSITORY / "infra")
    text = {"target": "kubernetes", "endpoint": "trips", "serving": serving, "pin": None}
    (root / manifest.path("staging")).write_text(yaml.safe_dump(text, sort_keys=False))
    documents = objects.of_bundle(Endpoint("staging", "trips", root), small.pin("a" * 64, 1))
    (container,) = pods(documents)[0]["containers"]
    return container


def test_a_service_looks_features_up_in_redis_whose_url_is_in_a_secret(sent, tmp_path):
    sent("staging")
    serving = {"store": "redis", "features": "FEATURES_URL/trips", "stale_after": 6}
    container = looking_up(tmp_path, serving)
    # As the service itself reads them.
    options = settings.parse([a if a != "/bundle" else "bundle" for a in container["args"]], None)
    assert (options.store, options.features, options.stale_after) == tuple(serving.values())
    url = {"secretKeyRef": {"name": "features", "key": "FEATURES_URL"}}
    assert container["env"] == [{"name": "FEATURES_URL", "valueFrom": url}]


@pytest.mark.parametrize("serving", [{}, {"store": "embedded", "stale_after": 6}])
def test_a_service_without_features_has_no_such_options(sent, tmp_path, serving):
    sent("staging")
    assert "--features" not in looking_up(tmp_path, serving)["args"]


def test_a_file_of_features_is_refused_where_pods_share_none(sent, tmp_path):
    sent("staging")
    with pytest.raises(UserError) as refused:
        looking_up(tmp_path, {"features": "features.sqlite"})
    assert str(refused.value) == (
        "environments/staging.yaml: serving.store: found 'embedded', a file of one machine, "
        "expected 'redis'"
    )


def test_kserve_runs_the_container_that_the_deployment_runs():
    pod, kserve = pods(rendered("overlays/staging"))[0], pods(rendered("kserve"))[0]
    for key in ("initContainers", "volumes", "securityContext", "serviceAccountName",
                "automountServiceAccountToken", "enableServiceLinks"):  # fmt: skip
        assert pod[key] == kserve[key], key
    (container,), (own,) = pod["containers"], kserve["containers"]
    # Knative names the port, takes no probe of the start, and drains a pod itself.
    own |= {"name": container["name"], "ports": container["ports"],
            "startupProbe": container["startupProbe"],
            "args": [own["args"][0], "--drain", "10", *own["args"][1:]]}  # fmt: skip
    for probe in ("livenessProbe", "readinessProbe"):
        own[probe]["httpGet"]["port"] = "http"
    assert own == container


@pytest.mark.parametrize(("store", "egress", "port"), [
    ("https://store.example", [{"ports": [{"port": 53}]}], "443 by TCP, expected one for ML"),
    ("https://store.example:9000", [{"ports": [{"port": 53}, {"port": 443}]}], "9000 by TCP, ex"),
    ("http://store.example", [{"ports": [{"port": 1, "endPort": 52}, {"port": 80}]}], "53 by UDP"),
    ("https://store.example", [{"ports": [{"port": "dns"}, {"port": 443}]}], "53 by UDP or TCP"),
    ("https://store.example", None, "53 by UDP or TCP, expected one for DNS"),
    ("https://store.example", [{"ports": [{"port": 53}, {"port": 443, "protocol": "UDP"}]}],
     "443 by TCP, expected one for MLOPS_BUNDLE_STORE"),
])  # fmt: skip
def test_pods_that_may_not_reach_the_store_are_refused(sent, monkeypatch, store, egress, port):
    endpoint = Endpoint("staging", "flights-late", REPOSITORY)
    sent("staging")
    monkeypatch.setenv("MLOPS_BUNDLE_STORE", store)
    (policy,) = [one for one in rendered("overlays/staging") if one["kind"] == "NetworkPolicy"]
    changed = {**policy, "spec": {**policy["spec"], "egress": egress}}
    monkeypatch.setattr(objects, "overlay", lambda _: [changed])
    with pytest.raises(UserError) as refused:
        objects.of_endpoint(endpoint)
    line = "infra/kubernetes/overlays/staging: NetworkPolicy: found no egress to port "
    assert str(refused.value).startswith(line + port)


@pytest.mark.parametrize("egress", [
    [{}], [{"to": [{"ipBlock": {"cidr": "10.0.4.0/28"}}]}],
    [{"ports": [{"port": 53}]}, {"ports": [{"port": 400, "endPort": 500}]}],
])  # fmt: skip
def test_pods_that_may_reach_the_store_are_accepted(sent, monkeypatch, egress):
    sent("staging")
    (policy,) = [one for one in rendered("overlays/staging") if one["kind"] == "NetworkPolicy"]
    changed = {**policy, "spec": {**policy["spec"], "egress": egress}}
    for one in (changed, {**policy, "spec": {**policy["spec"], "policyTypes": ["Ingress"]}}):
        monkeypatch.setattr(objects, "overlay", lambda _, one=one: [one])
        assert objects.of_endpoint(Endpoint("staging", "flights-late", REPOSITORY))


def test_a_policy_without_types_is_of_egress_where_it_has_rules_for_it(sent, monkeypatch):
    sent("staging")
    (policy,) = [one for one in rendered("overlays/staging") if one["kind"] == "NetworkPolicy"]
    spec = {"podSelector": {}, "egress": [{"ports": [{"port": 53}]}]}
    monkeypatch.setattr(objects, "overlay", lambda _: [{**policy, "spec": spec}])
    endpoint = Endpoint("staging", "flights-late", REPOSITORY)
    with pytest.raises(UserError, match="found no egress to port 443 by TCP"):
        objects.of_endpoint(endpoint)
    del spec["egress"]
    assert objects.of_endpoint(endpoint)
