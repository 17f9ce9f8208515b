"""What is below infra/kubernetes: put together, valid, hardened; and how pods fetch bundles."""

from __future__ import annotations

import copy
import functools
import http.server
import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from mlops.deploy.kubernetes import kubectl, objects
from mlops.deploy.target import Endpoint
from tests import apart
from tests.conftest import REPOSITORY, Shared
from tests.mlops.deploy import small
from tests.mlops.deploy.conftest import IMAGE, stored

FOLDER = REPOSITORY / "infra/kubernetes"
FETCH = FOLDER / "base/fetch.py"
OVERLAYS = ("staging", "production")
# The schemas of the oldest version that clouds still run, and of the newest one there is.
VERSIONS = ("1.32", "1.37")
CUSTOM = {"HTTPRoute", "InferenceService"}
CHECKER = Path(__file__).parent / "kubernetes_checker.py"

Check = Callable[[list[Any], str], list[str]]


@pytest.fixture(scope="session")
def check(shared: Shared, tmp_path_factory: pytest.TempPathFactory) -> Check:
    """What Kubernetes' own schemas find wrong with objects, "" for those that are valid."""
    lock = FOLDER / "tests.lock"
    folder = shared.folder("kubernetes-validate", lambda folder: apart.environment(lock, folder))

    def run(documents: list[Any], version: str) -> list[str]:
        file = tmp_path_factory.mktemp("objects") / "all.yaml"
        file.write_text(yaml.safe_dump_all(documents))
        done = subprocess.run(
            [str(folder / "bin/python"), str(CHECKER), version, str(file)],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        errors: list[str] = json.loads(done.stdout)
        return errors

    return run


@functools.cache
def rendered(place: str) -> list[Any]:
    """A folder's objects, as kubectl puts them together."""
    if not shutil.which("kubectl"):
        pytest.skip("no kubectl on the PATH")
    return kubectl.rendered(FOLDER / place, Path(place))


def schema(kind: str) -> Any:
    return json.loads((Path(__file__).parent / "schemas" / f"{kind.lower()}.json").read_text())


def sent(environment: str, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """All objects of an endpoint with two bundles, as the target applies them."""
    monkeypatch.setenv("MLOPS_SERVING_IMAGE", IMAGE)
    monkeypatch.setenv("MLOPS_BUNDLE_STORE", "https://store.example/bundles")
    endpoint = Endpoint(environment, "flights-late", REPOSITORY)
    rendered(f"overlays/{environment}")
    pins = [small.pin(letter * 64, number) for number, letter in enumerate("ab", 1)]
    names = [objects.name(endpoint, pin.digest) for pin in pins]
    route = objects.route(endpoint, {names[0]: 90, names[1]: 10}, {names[1]: 20})
    bundles = [one for pin in pins for one in objects.of_bundle(endpoint, pin)]
    return [*objects.of_endpoint(endpoint), *bundles, route]


def pods(documents: list[Any]) -> list[Any]:
    found = [one["spec"]["template"]["spec"] for one in documents if one["kind"] == "Deployment"]
    return found + [one["spec"]["predictor"] for one in documents
                    if one["kind"] == "InferenceService"]  # fmt: skip


@pytest.mark.parametrize("environment", OVERLAYS)
def test_no_placeholder_is_left(environment, monkeypatch):
    placeholders = {"scoring-bundle", "mlops-serving", "bundle-digest", "bundle-version",
             "bundle-content", "bundle-store", "scoring-fetch"}  # fmt: skip
    for document in sent(environment, monkeypatch):
        left = placeholders & set(strings(document))
        # The secret that may hold the store's signature is called so.
        assert left <= {"bundle-store"}, document["kind"]
        assert document["metadata"]["namespace"] == f"mlops-{environment}"
        assert document["metadata"]["labels"][objects.PART] == "flights-late"


def strings(part: Any) -> Iterator[str]:
    if isinstance(part, dict):
        for value in part.values():
            yield from strings(value)
    elif isinstance(part, list):
        for value in part:
            yield from strings(value)
    elif isinstance(part, str):
        yield part


@pytest.mark.parametrize("environment", OVERLAYS)
def test_objects_refer_to_each_other_by_name(environment, monkeypatch):
    documents = sent(environment, monkeypatch)
    named = {(one["kind"], one["metadata"]["name"]): one for one in documents}
    for (kind, name), one in named.items():
        if kind == "Deployment":
            pod = one["spec"]["template"]
            labels = pod["metadata"]["labels"]
            assert one["spec"]["selector"]["matchLabels"].items() <= labels.items()
            assert named["Service", name]["spec"]["selector"].items() <= labels.items()
            budget = named["PodDisruptionBudget", name]["spec"]["selector"]["matchLabels"]
            assert budget.items() <= labels.items()
            assert named["HorizontalPodAutoscaler", name]["spec"]["scaleTargetRef"]["name"] == name
            guarded = named["NetworkPolicy", "flights-late"]["spec"]["podSelector"]["matchLabels"]
            assert guarded.items() <= labels.items()
            assert ("ServiceAccount", pod["spec"]["serviceAccountName"]) in named
            maps = [v["configMap"]["name"] for v in pod["spec"]["volumes"] if "configMap" in v]
            assert all(("ConfigMap", mounted) in named for mounted in maps)
        if kind == "HTTPRoute":
            rule = one["spec"]["rules"][0]
            mirror = rule["filters"][0]["requestMirror"]["backendRef"]
            assert all(("Service", ref["name"]) in named for ref in [*rule["backendRefs"], mirror])


@pytest.mark.parametrize("environment", [*OVERLAYS, "kserve"])
def test_pods_are_hardened(environment, monkeypatch):
    kserve = environment == "kserve"
    documents = rendered("kserve") if kserve else sent(environment, monkeypatch)
    assert pods(documents)
    for pod in pods(documents):
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] == 10001
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in [*pod["initContainers"], *pod["containers"]]:
            allowed = container["securityContext"]
            assert allowed["allowPrivilegeEscalation"] is False
            assert allowed["readOnlyRootFilesystem"] is True
            assert allowed["capabilities"] == {"drop": ["ALL"]}
            assert container["resources"]["limits"]["memory"]
            assert container["resources"]["requests"].keys() == {"cpu", "memory"}
            assert kserve or container["image"] == IMAGE
        for container in pod["containers"]:
            assert {"livenessProbe", "readinessProbe"} <= container.keys()
    for account in [one for one in documents if one["kind"] == "ServiceAccount"]:
        assert account["automountServiceAccountToken"] is False


@pytest.mark.slow
@pytest.mark.nightly
@pytest.mark.parametrize("version", VERSIONS)
def test_kubernetes_own_schemas_accept_every_object(check, monkeypatch, version):
    documents = [one for environment in OVERLAYS for one in sent(environment, monkeypatch)
                 if one["kind"] not in CUSTOM]  # fmt: skip
    # Its predictor is a pod with a few more keys.
    predictor = pods(rendered("kserve"))[0]
    more = schema("InferenceService")["properties"]["spec"]["properties"]["predictor"]["properties"]
    pod = {key: value for key, value in predictor.items() if key == "containers" or key not in more}
    documents.append({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": pod})
    assert check(documents, version) == [""] * len(documents)


@pytest.mark.parametrize("environment", OVERLAYS)
def test_the_route_is_what_the_gateway_api_takes(environment, monkeypatch):
    (route,) = [one for one in sent(environment, monkeypatch) if one["kind"] == "HTTPRoute"]
    jsonschema.validate(route, schema("HTTPRoute"))


def test_the_inference_service_is_what_kserve_takes():
    (service,) = rendered("kserve")
    jsonschema.validate(service, schema("InferenceService"))


def broken(document: Any, path: str, value: Any) -> Any:
    """The document with one value changed, by its dotted path."""
    changed = copy.deepcopy(document)
    *parts, last = [int(part) if part.isdigit() else part for part in path.split(".")]
    inner = functools.reduce(lambda part, key: part[key], parts, changed)
    inner[last] = value
    return changed


@pytest.mark.slow
@pytest.mark.nightly
def test_kubernetes_own_schemas_refuse_what_is_broken(check, monkeypatch):
    named = {one["kind"]: one for one in sent("staging", monkeypatch)}
    cases = [
        ("Deployment", "spec.template.spec.containers.0.args", "/bundle"),
        ("Deployment", "spec.template.spec.containers.0.readnessProbe", {}),
        ("Deployment", "spec.template.spec.securityContext.runAsUser", "somebody"),
        ("Service", "spec.ports.0.port", "http"),
        ("HorizontalPodAutoscaler", "spec.minReplica", 1),
        ("PodDisruptionBudget", "spec.maxUnavailable", [1]),
        ("NetworkPolicy", "spec.ingress.0.from.0.namespaceSelector.matchLabel", {}),
        ("ServiceAccount", "automountServiceAccountToken", "no"),
    ]  # fmt: skip
    errors = check([broken(named[kind], path, value) for kind, path, value in cases], VERSIONS[-1])
    assert not [case for case, error in zip(cases, errors, strict=True) if not error], errors


@pytest.mark.parametrize(
    ("kind", "path", "value"),
    [
        ("HTTPRoute", "spec.rules.0.backendRefs.0.weight", -1),
        ("HTTPRoute", "spec.rules.0.backendRefs.0.port", "http"),
        ("HTTPRoute", "spec.rules.0.backendRef", []),
        ("HTTPRoute", "spec.rules.0.filters.0.requestMirror.percent", 120),
        ("HTTPRoute", "spec.rules.0.filters.0.type", "Mirror"),
        ("HTTPRoute", "spec.parentRef", []),
        ("InferenceService", "spec.canaryTrafficPercent", 10),
        ("InferenceService", "spec.predictor.canaryTrafficPercent", 110),
        ("InferenceService", "spec.predictor.minReplica", 1),
        ("InferenceService", "spec.predictor.containers.0.name", "scoring"),
    ],
)
def test_the_custom_schemas_refuse_what_is_broken(monkeypatch, kind, path, value):
    documents = [*sent("staging", monkeypatch), *rendered("kserve")]
    (document,) = [one for one in documents if one["kind"] == kind]
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(broken(document, path, value), schema(kind))


@pytest.fixture
def remote(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """DVC's remote over HTTP: its folder, its URL."""
    folder = tmp_path / "remote"
    folder.mkdir()
    handler = functools.partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield folder, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Files of a folder, behind a signature where one is wanted."""

    wanted = ""

    def do_GET(self) -> None:
        if self.wanted and not self.path.endswith(f"?{self.wanted}"):
            self.send_error(403)
            return
        super().do_GET()

    def log_message(self, *_: object) -> None:
        """Log nothing."""


def fetched(url: str, content: str, digest: str, target: Path, query: str = "") -> tuple[int, str]:
    """Run the script as the init container does: nothing of this repository is there."""
    done = subprocess.run(
        [sys.executable, "-I", "-S", str(FETCH), str(target)], capture_output=True, text=True,
        env={"BUNDLE_STORE": url, "BUNDLE_CONTENT": content, "BUNDLE_DIGEST": digest,
             "BUNDLE_QUERY": query},
        check=False,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


def test_a_pod_fetches_the_bytes_that_are_pinned(remote, tmp_path):
    folder, url = remote
    digest = small.made(tmp_path / "bundle", 1.0)
    content, target = stored(tmp_path / "bundle", folder), tmp_path / "target"
    target.mkdir()
    (target / "left").write_text("by an earlier try")
    assert fetched(url, content, digest, target) == (
        0,
        f"bundle {digest[:12]}: fetched and verified\n",
    )
    assert {p.name: p.read_bytes() for p in target.iterdir()} == {
        p.name: p.read_bytes() for p in (tmp_path / "bundle").iterdir()
    }


@pytest.mark.parametrize("damage", ["other bytes", "a file is gone", "out of the folder"])
def test_a_pod_keeps_nothing_of_what_is_not_pinned(remote, tmp_path, damage):
    folder, url = remote
    digest = small.made(tmp_path / "bundle", 1.0)
    content, target = stored(tmp_path / "bundle", folder), tmp_path / "target"
    listing = folder / "files/md5" / content[:2] / content[2:]
    files = json.loads(listing.read_text())
    first = folder / "files/md5" / files[0]["md5"][:2] / files[0]["md5"][2:]
    if damage == "other bytes":
        first.write_bytes(first.read_bytes() + b" ")
    elif damage == "a file is gone":
        first.unlink()
    else:
        files[0]["relpath"] = "../outside"
        listing.write_text(json.dumps(files))
    code, line = fetched(url, content, digest, target)
    assert (code, line.count("\n")) == (1, 1)
    assert line.startswith(f"bundle {digest[:12]}: ")
    assert list(target.iterdir()) == []
    assert not (tmp_path / "outside").exists()


def test_a_pod_signs_its_requests_and_does_not_log_the_signature(remote, tmp_path, monkeypatch):
    folder, url = remote
    monkeypatch.setattr(Quiet, "wanted", "sv=1&sig=made-up")
    digest = small.made(tmp_path / "bundle", 1.0)
    content = stored(tmp_path / "bundle", folder)
    assert fetched(url, content, digest, tmp_path / "a", "?sv=1&sig=made-up")[0] == 0
    code, line = fetched(url, content, digest, tmp_path / "b", "sv=1&sig=other")
    assert code == 1
    assert "403" in line
    assert "other" not in line


@pytest.mark.slow
@pytest.mark.nightly
def test_a_pod_reads_what_dvc_itself_pushed(remote, tmp_path):
    folder, url = remote
    work = tmp_path / "work"
    digest = small.made(work / "bundle", 1.0)

    def dvc(*arguments: str) -> None:
        subprocess.run([sys.executable, "-m", "dvc", *arguments], cwd=work, check=True,
                       capture_output=True)  # fmt: skip

    dvc("init", "--no-scm", "-q")
    dvc("remote", "add", "-d", "remote", str(folder))
    dvc("add", "-q", "bundle")
    dvc("push", "-q")
    content = yaml.safe_load((work / "bundle.dvc").read_text())["outs"][0]["md5"]
    assert fetched(url, content, digest, tmp_path / "target")[0] == 0
