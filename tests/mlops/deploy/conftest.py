"""Places that run bundles: this machine, and a stand-in for each cloud, with bundles to deploy."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import requests

from mlops.base import processes
from mlops.deploy import azureml, databricks, kubernetes
from mlops.deploy.azureml import sdk
from mlops.deploy.databricks import endpoint as databricks_endpoint
from mlops.deploy.kubernetes import objects
from mlops.deploy.specification import name_of
from mlops.deploy.target import Endpoint
from mlops.registry.pin import Contents, Pin
from tests.conftest import REPOSITORY, Shared
from tests.mlops.deploy import small
from tests.mlops.deploy.azure_server import WORKSPACE, Azure, sdk_python
from tests.mlops.deploy.cloud import Fault, Killed, at_change
from tests.mlops.deploy.databricks_server import API, Databricks
from tests.mlops.deploy.kubernetes_cluster import Cluster
from tests.mlops.deploy.kubernetes_objects import OVERLAYS, applied
from tests.mlops.deploy.place import Place
from tests.mlops.deploy.processes import stop

NAME, MODEL = "flights-late", "main.mlops.flights_late"
HERE = Endpoint("staging", NAME, REPOSITORY)
IMAGE = f"registry.example/mlops-serving@sha256:{'a' * 64}"
Bundle = tuple[Path, Pin]


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """An endpoint on this machine, which ends with its test."""
    made = Place(tmp_path)
    yield made
    for root in tmp_path.iterdir():
        stop(root)


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """DVC's remote."""
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="session")
def bundles(store: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Bundle]:
    """Three bundles with their pins, kept in the store."""
    made = []
    for version, slope in enumerate((0.0, 2.0, 3.0), 1):
        folder = tmp_path_factory.mktemp("bundles") / str(version)
        pin = small.pin(small.made(folder, slope), version, MODEL)
        dvc = Contents(bundle=stored(folder, store), evidence=pin.dvc.evidence)
        made.append((folder, pin.model_copy(update={"dvc": dvc})))
    return made


def stored(folder: Path, store: Path) -> str:
    """Keep a bundle as DVC's remote does; DVC's name of it."""

    def keep(content: bytes, suffix: str = "") -> str:
        name = hashlib.md5(content).hexdigest() + suffix
        place = store / "files/md5" / name[:2] / name[2:]
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
        return name

    files = [{"md5": keep(p.read_bytes()), "relpath": p.name} for p in sorted(folder.iterdir())]
    return keep(json.dumps(files, sort_keys=True).encode(), ".dir")


class World(SimpleNamespace):
    """A cloud's stand-in as the tests of all clouds use it.

    `shares` is what it has of NAME, by the deployment's name; `written` differs after a change;
    `left` is empty without an endpoint. `fail` makes the next deployment fail for want of quota,
    with the given message; `stranger` gives traffic to what is no bundle's. `reset` empties it.
    `killing` is the function that a call of the cloud is, and what ends the client there.
    """

    name_of = staticmethod(name_of)
    # Of each how many changes, an odd number, the client is killed at one.
    stride = 1

    def deploy(self, *bundles: Bundle) -> Any:
        """The digest, or the digests of several."""
        for folder, pin in bundles:
            self.target.deploy(HERE, pin, folder)
        digests = [pin.digest for _, pin in bundles]
        return digests if len(digests) > 1 else digests[0]

    @property
    def current(self) -> Any:
        return self.target.current(HERE)

    def refuse(self, *fault: Any) -> None:
        """Let a call fail."""
        self.server.faults.append(Fault(*fault))

    def killed(self, number: int, after: bool) -> AbstractContextManager[list[int]]:
        """End the client at its change of that number."""
        owner, name, event = self.killing
        return at_change(owner, name, event, number, after)


def die() -> None:
    raise Killed


@pytest.fixture(scope="session")
def azure_server(shared: Shared, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Azure]:
    """The stand-in for Azure; one driver of the SDK serves all tests."""
    python = sdk_python(shared)
    with Azure(tmp_path_factory.mktemp("azure"), python) as azure:
        yield azure


def stop_driver() -> None:
    process = sdk.connect(REPOSITORY).process
    if process:
        process.kill()
        process.wait()


@pytest.fixture
def azure(azure_server: Azure, monkeypatch: pytest.MonkeyPatch) -> World:
    for name, value in azure_server.environment().items():
        monkeypatch.setenv(name, value)

    def reset(polls: int = 2) -> None:
        azure_server.reset(polls)
        azureml._access.cache_clear()

    def fail(message: str) -> None:
        azure_server.failure = {"code": "OutOfQuota", "message": message}

    def stranger() -> None:
        place = f"{WORKSPACE}/onlineEndpoints/{NAME}"
        (name,) = azure_server.endpoint(NAME)["traffic"]
        deployment = azure_server.resources[f"{place}/deployments/{name}"]
        properties = {**deployment["properties"], "model": None}
        other = {**deployment, "name": "another", "properties": properties}
        azure_server.resources[f"{place}/deployments/another"] = other
        azure_server.endpoint(NAME)["traffic"] = {name: 60, "another": 40}

    reset()
    return World(
        target=azureml, place="Azure ML", server=azure_server,
        shares=lambda: azure_server.endpoint(NAME)["traffic"],
        written=lambda: [x for x in azure_server.log if x.startswith(("PUT", "DELETE"))],
        left=lambda: [path for path in azure_server.resources if "ndpoints/" in path],
        fail=fail, stranger=stranger, reset=lambda: reset(3), stride=7,
        killing=(azure_server, "answer", stop_driver),
    )  # fmt: skip


@pytest.fixture
def workspace(monkeypatch: pytest.MonkeyPatch, bundles: list[Bundle]) -> Iterator[World]:
    """Databricks, where the bundles are registered; its clients' waits take no time."""
    with Databricks() as server:

        def reset(polls: int = 2) -> None:
            server.reset(polls)
            for folder, pin in bundles:
                server.register(MODEL, pin.version, folder)

        def stranger() -> None:
            del server.endpoints[NAME]["config"]["served_entities"][0]["environment_vars"]

        reset()
        monkeypatch.setattr(time, "sleep", lambda _: None)
        databricks_endpoint.client.cache_clear()
        for name, value in server.environment().items():
            monkeypatch.setenv(name, value)
        yield World(
            target=databricks, place="Databricks", server=server,
            shares=lambda: server.shares(NAME),
            written=lambda: [x for x in server.log if x.startswith(("PUT", "PATCH", "DELETE"))
                             or x == f"POST {API}"],
            left=lambda: server.endpoints,
            fail=lambda message: setattr(server, "failure", message),
            stranger=stranger, reset=lambda: reset(3), killing=(requests.Session, "send", die),
        )  # fmt: skip
    databricks_endpoint.client.cache_clear()


@pytest.fixture
def cluster(tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """A new cluster instead of kubectl's; kustomize is the real one."""
    objects.overlay.cache_clear()
    if not shutil.which("kubectl"):
        pytest.skip("no kubectl on the PATH, whose kustomize is used")
    server, real = Cluster("mlops-staging", tmp_path / "volumes"), processes.run
    monkeypatch.setenv("MLOPS_SERVING_IMAGE", IMAGE)
    monkeypatch.setenv("MLOPS_BUNDLE_STORE", store.as_uri())

    def run(command: list[str], *arguments: Any, **options: Any) -> str:
        return (real if "kustomize" in command else server.run)(command, *arguments, **options)

    def backends() -> Any:
        return server.objects[f"httproute/{NAME}"]["spec"]["rules"][0]["backendRefs"]

    monkeypatch.setattr(processes, "run", run)
    return World(
        target=kubernetes, place="Kubernetes", server=server,
        shares=lambda: {ref["name"]: ref["weight"] for ref in backends()},
        written=lambda: json.dumps(server.objects), left=lambda: server.objects,
        fail=lambda message: setattr(server, "quota", message),
        stranger=lambda: backends().append({"name": "another", "weight": 5}),
        reset=server.reset, stride=3, killing=(processes, "run", die),
        name_of=lambda digest: objects.name(HERE, digest),
    )  # fmt: skip


SLOW = (pytest.mark.slow, pytest.mark.nightly)


@pytest.fixture(
    params=[pytest.param("azure", marks=SLOW), "workspace", pytest.param("cluster", marks=SLOW)]
)
def world(request: pytest.FixtureRequest) -> World:
    """Each cloud in turn."""
    return request.getfixturevalue(request.param)


@pytest.fixture(params=OVERLAYS)
def environment(request: pytest.FixtureRequest) -> str:
    """Each environment with an overlay of Kubernetes."""
    return str(request.param)


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], list[Any]]:
    """All objects of an environment in Kubernetes, as they are applied."""
    monkeypatch.setenv("MLOPS_SERVING_IMAGE", IMAGE)
    monkeypatch.setenv("MLOPS_BUNDLE_STORE", "https://store.example/bundles")
    return applied
