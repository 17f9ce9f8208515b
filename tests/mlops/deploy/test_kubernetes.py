"""Kubernetes as a target, against a stand-in for kubectl that keeps a cluster in a folder."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mlops.base.errors import UserError
from mlops.deploy import kubernetes
from mlops.deploy.kubernetes import kubectl, objects
from mlops.deploy.target import Endpoint, Running
from mlops.registry.pin import Contents, Pin
from tests.conftest import REPOSITORY
from tests.mlops.deploy import small, story
from tests.mlops.deploy.cloud import Killed

NAME = "flights-late"
HERE = Endpoint("staging", NAME, REPOSITORY)
STAND_IN = Path(__file__).parent / "kubectl_stand_in.py"
IMAGE = f"registry.example/mlops-serving@sha256:{'a' * 64}"


@dataclass(frozen=True)
class Cluster:
    """The stand-in's cluster, by its folder."""

    folder: Path

    def fail(self, match: str, line: str, times: int = 1) -> None:
        fault = {"match": match, "line": line, "times": times}
        (self.folder / "faults.json").write_text(json.dumps([fault]))

    def all(self) -> list[str]:
        return sorted(
            str(path.relative_to(self.folder)) for path in self.folder.glob("mlops-*/*/*.json")
        )

    def find(self, kind: str, name: str) -> Any:
        return json.loads(self._file(kind, name).read_text())["object"]

    @contextmanager
    def edit(self, kind: str, name: str) -> Iterator[Any]:
        """Change an object as somebody else would."""
        content = json.loads(self._file(kind, name).read_text())
        yield content["object"]
        self._file(kind, name).write_text(json.dumps(content))

    def _file(self, kind: str, name: str) -> Path:
        return self.folder / f"mlops-staging/{kind}/{name}.json"


def stored(folder: Path, store: Path) -> str:
    """Keep a bundle as DVC's remote does; DVC's name of it."""
    files = []
    for path in sorted(folder.iterdir()):
        name = hashlib.md5(path.read_bytes()).hexdigest()
        files.append({"md5": name, "relpath": path.name})
        _keep(store, name, path.read_bytes())
    listing = json.dumps(files, sort_keys=True).encode()
    name = hashlib.md5(listing).hexdigest() + ".dir"
    _keep(store, name, listing)
    return name


def _keep(store: Path, name: str, content: bytes) -> None:
    place = store / "files/md5" / name[:2] / name[2:]
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(content)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="module")
def bundles(store: Path, tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Path, Pin]]:
    """Two bundles with their pins, kept in the store."""
    made = []
    for number, slope in enumerate((0.0, 2.0), 1):
        folder = tmp_path_factory.mktemp("bundles") / str(number)
        pin = small.pin(small.made(folder, slope), number)
        dvc = Contents(bundle=stored(folder, store), evidence=pin.dvc.evidence)
        made.append((folder, pin.model_copy(update={"dvc": dvc})))
    return made


def started(folder: Path, store: Path, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    """A new cluster, and a kubectl for it on the PATH."""
    objects.overlay.cache_clear()
    real = shutil.which("kubectl")
    if real is None:
        pytest.skip("no kubectl on the PATH, whose kustomize the stand-in uses")
    programs = folder / "bin"
    programs.mkdir(parents=True)
    program = programs / "kubectl"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{STAND_IN}" "$@"\n')
    program.chmod(0o755)
    cluster = Cluster(folder / "cluster")
    cluster.folder.mkdir()
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setenv("CLUSTER", str(cluster.folder))
    monkeypatch.setenv("KUBECTL", real)
    monkeypatch.setenv("MLOPS_SERVING_IMAGE", IMAGE)
    monkeypatch.setenv("MLOPS_BUNDLE_STORE", store.as_uri())
    return cluster


@pytest.fixture
def cluster(tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    return started(tmp_path, store, monkeypatch)


def deploy(one: tuple[Path, Pin]) -> str:
    kubernetes.deploy(HERE, one[1], one[0])
    return one[1].digest


def name_of(digest: str) -> str:
    return objects.name(HERE, digest)


pytestmark = [pytest.mark.slow, pytest.mark.nightly]


def test_the_first_bundle_has_all_of_the_traffic_and_the_next_one_none(cluster, bundles):
    first = deploy(bundles[0])
    assert kubernetes.current(HERE) == Running({first: 100})
    second = deploy(bundles[1])
    assert kubernetes.current(HERE) == Running({first: 100, second: 0})


def test_traffic_moves_in_steps_and_back(cluster, bundles):
    first, second = deploy(bundles[0]), deploy(bundles[1])
    for share in (10, 50, 100):
        kubernetes.traffic(HERE, {first: 100 - share, second: share})
        assert kubernetes.current(HERE).traffic == {first: 100 - share, second: share}
    kubernetes.traffic(HERE, {first: 100})
    rule = cluster.find("HTTPRoute", NAME)["spec"]["rules"][0]
    assert {ref["name"]: ref["weight"] for ref in rule["backendRefs"]} == {
        name_of(first): 100, name_of(second): 0
    }  # fmt: skip


def test_repeated_calls_change_nothing(cluster, bundles):
    first, second = deploy(bundles[0]), deploy(bundles[1])
    kubernetes.traffic(HERE, {first: 90, second: 10})
    kubernetes.note(HERE, "why")
    before = {path: (cluster.folder / path).read_text() for path in cluster.all()}
    deploy(bundles[1])
    kubernetes.traffic(HERE, {first: 90, second: 10})
    kubernetes.note(HERE, "why")
    assert {path: (cluster.folder / path).read_text() for path in cluster.all()} == before
    assert kubernetes.current(HERE) == Running({first: 90, second: 10}, "why")
    kubernetes.note(HERE, "")
    assert kubernetes.current(HERE).note == ""


def test_the_last_bundle_takes_the_endpoint_with_it(cluster, bundles):
    first, second = deploy(bundles[0]), deploy(bundles[1])
    with pytest.raises(UserError, match="answers 100 % of the requests in Kubernetes"):
        kubernetes.remove(HERE, first)
    kubernetes.traffic(HERE, {second: 100})
    for _ in range(2):
        kubernetes.remove(HERE, first)
        assert kubernetes.current(HERE) == Running({second: 100})
    for _ in range(2):
        kubernetes.remove(HERE, second)
        assert kubernetes.current(HERE) == Running({})
    assert cluster.all() == []


def test_a_bundle_gets_a_copy_of_the_requests(cluster, bundles):
    first, second = deploy(bundles[0]), deploy(bundles[1])
    kubernetes.traffic(HERE, {first: 100}, {second: 20})
    rule = cluster.find("HTTPRoute", NAME)["spec"]["rules"][0]
    assert rule["filters"] == [{
        "type": "RequestMirror",
        "requestMirror": {"backendRef": {"name": name_of(second), "port": 8080}, "percent": 20},
    }]  # fmt: skip
    kubernetes.traffic(HERE, {first: 90, second: 10})
    assert cluster.find("HTTPRoute", NAME)["spec"]["rules"][0]["filters"] == []


def test_a_bundle_of_other_bytes_never_starts(cluster, bundles):
    first = deploy(bundles[0])
    folder, pin = bundles[1]
    other = pin.model_copy(update={"dvc": bundles[0][1].dvc})
    with pytest.raises(UserError) as error:
        kubernetes.deploy(HERE, other, folder)
    assert str(error.value) == (
        f"Kubernetes: could not start {name_of(pin.digest)}: timed out waiting for the condition: "
        f"bundle {pin.digest[:12]}: found digest {first[:12]}"
    )
    assert kubernetes.current(HERE) == Running({first: 100})
    assert not [path for path in cluster.all() if pin.digest[:12] in path]


def test_a_failure_for_want_of_quota_is_one_line_and_the_next_run_goes_on(cluster, bundles):
    first = deploy(bundles[0])
    quota = cluster.folder / "quota"
    quota.write_text('pods "x" is forbidden: exceeded quota: team,\nrequested: requests.cpu=500m')
    with pytest.raises(UserError) as error:
        deploy(bundles[1])
    assert str(error.value).endswith("exceeded quota: team, requested: requests.cpu=500m")
    assert "\n" not in str(error.value)
    quota.unlink()
    second = deploy(bundles[1])
    assert kubernetes.current(HERE) == Running({first: 100, second: 0})


@pytest.mark.parametrize(
    ("match", "stderr", "line"),
    [
        ("apply", 'Error from server (Forbidden): deployments.apps "x" is forbidden: User "ci" '
                  "cannot patch resource",
         'Kubernetes: may not prepare flights-late: (Forbidden): deployments.apps "x" is '
         'forbidden: User "ci" cannot patch resource'),
        ("get", "error: You must be logged in to the server (Unauthorized)",
         "Kubernetes: could not read deployment flights-late-{}: You must be logged in to the "
         "server (Unauthorized); kubectl's credentials are not accepted"),
        ("apply", 'error: resource mapping not found: no matches for kind "HTTPRoute" in version '
                  '"gateway.networking.k8s.io/v1"',
         "Kubernetes: could not prepare flights-late: resource mapping not found: no matches for "
         'kind "HTTPRoute" in version "gateway.networking.k8s.io/v1"; is the Gateway API '
         "installed?"),
    ],
    ids=["forbidden", "unauthorized", "no gateway"],
)  # fmt: skip
def test_a_refusal_is_one_line(cluster, bundles, match, stderr, line):
    cluster.fail(match, stderr)
    with pytest.raises(UserError) as error:
        deploy(bundles[0])
    assert str(error.value) == line.format(bundles[0][1].digest[:12])


def test_a_lost_connection_is_tried_again_for_a_while(cluster, bundles):
    first = deploy(bundles[0])
    place = kubectl.Cluster("mlops-staging", waits=(0.0,) * 3)
    lost = "Unable to connect to the server: dial tcp: connection refused"
    cluster.fail("get", lost, 2)
    assert place.find("httproute", NAME)
    cluster.fail("get", lost, 9)
    with pytest.raises(UserError, match=r"connection refused; run it again, nothing is done twice"):
        place.find("httproute", NAME)
    cluster.fail("get", lost, 0)
    assert kubernetes.current(HERE) == Running({first: 100})


def test_health_is_the_sum_of_the_pods_own_metrics(cluster, bundles):
    from mlops.serving.metrics import Metrics

    first = deploy(bundles[0])
    counted = Metrics()
    for status in (200,) * 97 + (422,) * 2 + (500,):
        counted.answered("invocations", status, 0.004)
    for _ in range(50):
        counted.answered("ready", 503, 0.2)
    counted.scores.labels("probability", "0.3").inc(7)
    (cluster.folder / f"{name_of(first)}-0.metrics").write_bytes(counted.render())
    found = kubernetes.health(HERE, first)
    assert (found.requests, found.errors) == (100, 1)
    assert 0.0025 < found.seconds <= 0.005
    assert found.scores == (0, 0, 0, 7, 0, 0, 0, 0, 0, 0)


def test_a_bundle_is_asked_whatever_its_share(cluster, bundles):
    _, second = deploy(bundles[0]), deploy(bundles[1])
    found = kubernetes.ask(HERE, second, [{"x": 0.0, "z": 0.0}, {"x": 1.0, "z": 0.0}])
    assert found.scores == pytest.approx((0.5, 0.8808), abs=1e-4)
    assert kubernetes.ask(HERE, "f" * 64, [{"x": 0.0, "z": 0.0}]).scores == ()


def test_a_backend_of_somebody_else_is_not_overlooked(cluster, bundles):
    deploy(bundles[0])
    with cluster.edit("HTTPRoute", NAME) as route:
        route["spec"]["rules"][0]["backendRefs"].append({"name": "another", "weight": 5})
    with pytest.raises(UserError, match="another answers requests in Kubernetes, and is none"):
        kubernetes.current(HERE)


def test_a_bundle_that_is_not_ready_does_not_answer(cluster, bundles):
    first = deploy(bundles[0])
    with cluster.edit("Deployment", name_of(first)) as deployment:
        deployment["status"]["availableReplicas"] = 0
    assert kubernetes.current(HERE) == Running({first: 100}, answers="no")


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
        deploy(bundles[0])


def test_an_environment_without_an_overlay_is_refused(cluster, bundles):
    with pytest.raises(UserError, match="infra/kubernetes/overlays/canary: not found"):
        kubernetes.current(Endpoint("canary", NAME, REPOSITORY))


def test_a_rollout_takes_over_in_steps_and_is_undone(cluster, bundles):
    story.takes_over(kubernetes, HERE, bundles, steps=(50,))


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_run_that_was_killed_anywhere_is_finished_by_the_next(
    tmp_path, store, bundles, monkeypatch, after
):
    first, second = (pin.digest for _, pin in bundles)

    def rollout() -> None:
        deploy(bundles[0])
        deploy(bundles[1])
        kubernetes.traffic(HERE, {first: 90, second: 10})
        kubernetes.note(HERE, "at 10 %")
        kubernetes.traffic(HERE, {second: 100})
        kubernetes.remove(HERE, first)

    real, number, ended = subprocess.run, 5 if after else 1, False
    while not ended:
        with monkeypatch.context() as patch:
            cluster = started(tmp_path / str(number), store, patch)
            count = [0]

            def run(*given: Any, count: list[int] = count, number: int = number, **more: Any):
                count[0] += 1
                if count[0] == number and not after:
                    raise Killed
                done = real(*given, **more)
                if count[0] == number:
                    raise Killed
                return done

            try:
                with monkeypatch.context() as kills:
                    kills.setattr(subprocess, "run", run)
                    rollout()
                ended = True
            except Killed:
                rollout()
            assert kubernetes.current(HERE) == Running({second: 100}, "at 10 %")
            assert not [path for path in cluster.all() if first[:12] in path]
        number += 13
    assert number > 30
