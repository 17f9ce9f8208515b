"""What is below infra/kubernetes: put together, hardened, and allowed to reach what it needs."""

from __future__ import annotations

import json
from contextlib import nullcontext
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


STORE, DNS = "https://store.example", {"port": 53}
# What of a policy is changed, the store, and what pods lack to reach it, "" for nothing.
EGRESS = [
    ({"egress": [{"ports": [DNS]}]}, STORE, "443 by TCP, expected one for MLOPS_BUNDLE_STORE"),
    ({"egress": [{"ports": [DNS, {"port": 443}]}]}, f"{STORE}:9000", "9000 by TCP, expected"),
    ({"egress": [{"ports": [{"port": 1, "endPort": 52}, {"port": 80}]}]},
     "http://store.example", "53 by UDP"),
    ({"egress": [{"ports": [{"port": "dns"}, {"port": 443}]}]}, STORE, "53 by UDP or TCP"),
    ({"egress": None}, STORE, "53 by UDP or TCP, expected one for DNS"),
    ({"egress": [{"ports": [DNS, {"port": 443, "protocol": "UDP"}]}]}, STORE, "443 by TCP"),
    # Without types it is of egress where it has rules for that.
    ({"policyTypes": None, "egress": [{"ports": [DNS]}]}, STORE, "443 by TCP"),
    ({"policyTypes": None, "egress": None}, STORE, ""),
    ({"policyTypes": ["Ingress"]}, STORE, ""), ({"egress": [{}]}, STORE, ""),
    ({"egress": [{"to": [{"ipBlock": {"cidr": "10.0.4.0/28"}}]}]}, STORE, ""),
    ({"egress": [{"ports": [DNS]}, {"ports": [{"port": 400, "endPort": 500}]}]}, STORE, ""),
]  # fmt: skip


@pytest.mark.parametrize(("change", "store", "lacking"), EGRESS)
def test_pods_that_may_not_reach_the_store_are_refused(sent, monkeypatch, change, store, lacking):
    sent("staging")
    monkeypatch.setenv("MLOPS_BUNDLE_STORE", store)
    (policy,) = [one for one in rendered("overlays/staging") if one["kind"] == "NetworkPolicy"]
    changed = {**policy, "spec": policy["spec"] | change}
    monkeypatch.setattr(objects, "overlay", lambda _: [changed])
    place = "infra/kubernetes/overlays/staging: NetworkPolicy: found no egress to port"
    expected = pytest.raises(UserError, match=f"^{place} {lacking}") if lacking else nullcontext()
    with expected:
        assert objects.of_endpoint(Endpoint("staging", "flights-late", REPOSITORY))
