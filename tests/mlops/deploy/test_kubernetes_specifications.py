"""What is below infra/kubernetes: put together, valid, hardened; and how pods fetch bundles."""

from __future__ import annotations

import functools
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from mlops.base.errors import UserError
from mlops.contract import bundle
from mlops.deploy import manifest
from mlops.deploy.kubernetes import kubectl, objects
from mlops.deploy.target import Endpoint
from mlops.serving import settings
from tests import apart
from tests.conftest import REPOSITORY, Shared
from tests.mlops.deploy import small
from tests.mlops.deploy.cloud import Answer, Call, Cloud
from tests.mlops.deploy.conftest import IMAGE, stored

FOLDER = REPOSITORY / "infra/kubernetes"
OVERLAYS = ("staging", "production")
# The schemas of the oldest version that clouds still run, and of the newest one there is.
VERSIONS = ("-k", "1.32", "-k", "1.37")
CUSTOM = {"HTTPRoute", "InferenceService"}
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


@functools.cache
def rendered(place: str) -> list[Any]:
    """A folder's objects, as kubectl puts them together."""
    if not shutil.which("kubectl"):
        pytest.skip("no kubectl on the PATH")
    return kubectl.rendered(FOLDER / place, Path(place))


def schema(kind: str) -> Any:
    return json.loads((Path(__file__).parent / "schemas" / f"{kind.lower()}.json").read_text())


@pytest.fixture(params=OVERLAYS)
def environment(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], list[Any]]:
    """All objects of an endpoint with two bundles, as the target applies them."""
    monkeypatch.setenv("MLOPS_SERVING_IMAGE", IMAGE)
    monkeypatch.setenv("MLOPS_BUNDLE_STORE", "https://store.example/bundles")

    def applied(environment: str) -> list[Any]:
        endpoint = Endpoint(environment, "flights-late", REPOSITORY)
        rendered(f"overlays/{environment}")
        pins = [small.pin(letter * 64, number) for number, letter in enumerate("ab", 1)]
        names = [objects.name(endpoint, pin.digest) for pin in pins]
        route = objects.route(endpoint, {names[0]: 90, names[1]: 10}, {names[1]: 20})
        bundles = [one for pin in pins for one in objects.of_bundle(endpoint, pin)]
        return [*objects.of_endpoint(endpoint), *bundles, route]

    return applied


def pods(documents: list[Any]) -> list[Any]:
    deployments = [one["spec"]["template"]["spec"] for one in documents
                   if one["kind"] == "Deployment"]  # fmt: skip
    services = [one for one in documents if one["kind"] == "InferenceService"]
    return deployments + [one["spec"]["predictor"] for one in services]


def at(document: Any, path: str) -> Any:
    """What is at a dotted path."""
    parts = [int(part) if part.isdigit() else part for part in path.split(".")]
    return functools.reduce(lambda part, key: part[key], parts, document)


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


@pytest.mark.slow
@pytest.mark.nightly
def test_kubernetes_own_schemas_accept_every_object(shared: Shared, sent, tmp_path):
    lock, file = FOLDER / "tests.lock", tmp_path / "objects.yaml"
    folder = shared.folder("kubernetes-validate", lambda folder: apart.environment(lock, folder))
    command = [folder / "bin/kubernetes-validate", "--strict", *VERSIONS, file]
    documents = [one for environment in OVERLAYS for one in sent(environment)
                 if one["kind"] not in CUSTOM]  # fmt: skip
    # Its predictor is a pod with a few more keys.
    predictor = pods(rendered("kserve"))[0]
    more = at(schema("InferenceService"), "properties.spec.properties.predictor.properties")
    pod = {key: value for key, value in predictor.items() if key == "containers" or key not in more}
    documents.append({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": pod})
    file.write_text(yaml.safe_dump_all(documents))
    lines = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    assert [line.split()[0] for line in lines.splitlines()] == 2 * len(documents) * ["INFO"], lines


def test_the_gateway_apis_and_kserves_schemas_accept_every_object(environment, sent):
    custom = [one for one in [*sent(environment), *rendered("kserve")] if one["kind"] in CUSTOM]
    assert {one["kind"] for one in custom} == CUSTOM
    for document in custom:
        jsonschema.validate(document, schema(document["kind"]))


class Signed(Cloud):
    """DVC's remote over HTTP, behind a signature."""

    routes = ((r"GET /(files/md5/../.+)", "file"),)
    folder: Path

    def file(self, call: Call, place: str) -> Answer:
        signed = call.query == {"sv": "1", "sig": "made-up"}
        return Answer(200, (self.folder / place).read_bytes()) if signed else Answer(403)


def fetched(
    url: str, content: str, digest: str, target: Path, query: str = "", limits: Sequence[str] = ()
) -> tuple[int, str]:
    """Run the script as the init container does: nothing of this repository is there."""
    done = subprocess.run(
        [*limits, sys.executable, "-I", "-S", str(FOLDER / "base/fetch.py"), str(target)],
        check=False,
        env={"BUNDLE_STORE": url, "BUNDLE_CONTENT": content, "BUNDLE_DIGEST": digest,
             "BUNDLE_QUERY": query},
        capture_output=True, text=True,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


def test_a_pod_fetches_the_bytes_that_are_pinned_with_a_signature_that_it_does_not_log(tmp_path):
    digest = small.made(tmp_path / "bundle", 1.0)
    content, target = stored(tmp_path / "bundle", tmp_path / "remote"), tmp_path / "target"
    target.mkdir()
    (target / "left").write_text("by an earlier try")
    line = f"bundle {digest[:12]}: fetched and verified\n"
    assert fetched((tmp_path / "remote").as_uri(), content, digest, target) == (0, line)
    assert bundle.digest(target) == digest
    with Signed() as server:
        server.folder = tmp_path / "remote"
        assert fetched(server.url, content, digest, target, "?sv=1&sig=made-up")[0] == 0
        code, line = fetched(server.url, content, digest, target, "sv=1&sig=other")
    assert (code, "403" in line, "other" in line) == (1, True, False)


def test_a_pod_fetches_a_bundle_larger_than_its_memory(tmp_path):
    (tmp_path / "bundle").mkdir()
    with (tmp_path / "bundle/model.onnx").open("wb") as file:
        file.truncate(300 * 2**20)
    digest = bundle.digest(tmp_path / "bundle")
    content, target = stored(tmp_path / "bundle", tmp_path / "remote"), tmp_path / "target"
    url, limits = (tmp_path / "remote").as_uri(), ("prlimit", f"--as={256 * 2**20}")
    assert fetched(url, content, digest, target, limits=limits)[0] == 0


def test_kserve_and_the_deployment_fetch_by_the_same_settings():
    deployment, kserve = (
        yaml.safe_load((FOLDER / file).read_text())["spec"]
        for file in ("base/deployment.yaml", "kserve/inferenceservice.yaml")
    )
    containers = deployment["template"]["spec"]["initContainers"]
    assert containers == kserve["predictor"]["initContainers"]


@pytest.mark.parametrize("damage", ["other bytes", "a file is gone", "out of the folder"])
def test_a_pod_keeps_nothing_of_what_is_not_pinned(tmp_path, damage):
    digest = small.made(tmp_path / "bundle", 1.0)
    content, target = stored(tmp_path / "bundle", tmp_path), tmp_path / "target"
    listing = tmp_path / "files/md5" / content[:2] / content[2:]
    files = json.loads(listing.read_text())
    first = tmp_path / "files/md5" / files[0]["md5"][:2] / files[0]["md5"][2:]
    if damage == "other bytes":
        first.write_bytes(first.read_bytes() + b" ")
    elif damage == "a file is gone":
        first.unlink()
    else:
        files[0]["relpath"] = "../outside"
        listing.write_text(json.dumps(files))
    code, line = fetched(tmp_path.as_uri(), content, digest, target)
    assert (code, line.count("\n")) == (1, 1)
    assert line.startswith(f"bundle {digest[:12]}: ")
    assert list(target.iterdir()) == []
    assert not (tmp_path / "outside").exists()


@pytest.mark.slow
@pytest.mark.nightly
def test_a_pod_reads_what_dvc_itself_pushed(tmp_path):
    folder, work = tmp_path / "remote", tmp_path / "work"
    digest = small.made(work / "bundle", 1.0)
    for arguments in (
        "init --no-scm -q", f"remote add -d remote {folder}", "add -q bundle", "push -q"
    ):  # fmt: skip
        command = [sys.executable, "-m", "dvc", *arguments.split()]
        subprocess.run(command, cwd=work, check=True, capture_output=True)
    content = yaml.safe_load((work / "bundle.dvc").read_text())["outs"][0]["md5"]
    assert fetched(folder.as_uri(), content, digest, tmp_path / "target")[0] == 0
