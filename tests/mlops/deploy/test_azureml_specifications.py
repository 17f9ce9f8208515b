"""The YAML below infra/azureml, loaded by Azure ML's own SDK in an environment of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml

from mlops.base.errors import UserError
from mlops.base.faults import Patience
from mlops.base.http import Site, Token
from mlops.deploy import azureml, specification
from mlops.deploy.azureml import arm, bodies
from mlops.deploy.azureml import workspace as azureml_workspace
from mlops.deploy.azureml.arm import Arm
from mlops.deploy.azureml.workspace import FOLDER, Workspace
from mlops.deploy.target import Endpoint
from tests import apart
from tests.conftest import REPOSITORY, Shared
from tests.mlops.deploy import small
from tests.mlops.deploy.azure_server import Azure

LOADERS = {
    "endpoint": "online_endpoint",
    "deployment": "online_deployment",
    "environment": "environment",
    "batch-endpoint": "batch_endpoint",
    "batch-deployment": "model_batch_deployment",
}
IMAGE = f"registry.example/mlops-serving@sha256:{'a' * 64}"


@pytest.fixture
def values(monkeypatch) -> dict[str, str]:
    monkeypatch.setenv(specification.IMAGE, IMAGE)
    return azureml_workspace.values("flights-late", small.pin("0123456789ab" + "f" * 52, 3))


@pytest.fixture
def workspace() -> Workspace:
    site = Site("Azure ML", "", "https://azure.example", azureml_workspace.explain)
    return Workspace(Arm(site, Token("", "made-up"), Patience()), "/subscriptions/0/work")


@pytest.fixture(scope="session")
def sdk(shared: Shared) -> Callable[..., Any]:
    """Run a script with Azure ML's SDK: what its last line says in JSON."""
    lock = REPOSITORY / FOLDER / "tests.lock"
    folder = shared.folder("azure-ai-ml", lambda folder: apart.environment(lock, folder))

    def run(script: str, *arguments: str) -> Any:
        done = subprocess.run(
            [str(folder / "bin/python"), str(Path(__file__).parent / script), *arguments],
            capture_output=True, text=True, check=True,
            env={"PATH": os.environ["PATH"], "HOME": str(folder)},
        )  # fmt: skip
        return json.loads(done.stdout.splitlines()[-1])

    return run


@pytest.fixture
def load(sdk) -> Callable[[list[tuple[str, Path]]], list[dict[str, Any]]]:
    """What the SDK says of files, given with the names of their loaders."""

    def run(files: list[tuple[str, Path]]) -> list[dict[str, Any]]:
        arguments = [f"{loader}={file}" for loader, file in files]
        said: list[dict[str, Any]] = sdk("azureml_loader.py", *arguments)
        return said

    return run


def written(name: str, content: Any, folder: Path) -> tuple[str, Path]:
    file = folder / f"{name}-{len(list(folder.iterdir()))}.yaml"
    file.write_text(yaml.safe_dump(content))
    return LOADERS[name], file


def spec(name: str, values: dict[str, str]) -> dict[str, Any]:
    return specification.load(REPOSITORY, bodies.place(name), values)


@pytest.mark.slow
def test_azure_mls_own_loader_accepts_each_and_makes_the_same_request_of_it(
    load, values, workspace, tmp_path
):
    specs = {name: spec(name, values) for name in LOADERS}
    said = load([written(name, content, tmp_path) for name, content in specs.items()])
    where = "westeurope"
    ours = {
        "endpoint": bodies.endpoint(specs["endpoint"], where),
        "deployment": bodies.deployment(specs["deployment"], workspace, where),
        "environment": {"properties": azureml_workspace.environment_body(specs["environment"])},
        "batch-endpoint": bodies.batch_endpoint(specs["batch-endpoint"], where),
        "batch-deployment": bodies.batch_deployment(specs["batch-deployment"], workspace, where),
    }
    for (name, own), answer in zip(ours.items(), said, strict=True):
        assert "accepted" in answer, (name, answer)
        assert plain(own) == plain(answer["accepted"]), name


# What the SDK says and Azure assumes anyway; what it leaves to be looked up.
DEFAULTS = {
    "properties": {}, "traffic": {}, "mirrortraffic": {}, "appinsightsenabled": False,
    "isanonymous": False, "isarchived": False, "ostype": "linux", "tags": {},
    "deploymentconfiguration": {"deploymentconfigurationtype": "model"},
}  # fmt: skip


def plain(part: Any) -> Any:
    """A request without defaults, in lower case, resources by their names alone."""
    if isinstance(part, dict):
        lower = {key.lower(): plain(value) for key, value in part.items()}
        return {k: v for k, v in lower.items() if v is not None and DEFAULTS.get(k, ...) != v}
    if not isinstance(part, str):
        return part
    for kind in ("models", "environments", "computes"):
        part = part.rpartition(f"/{kind}/")[2].replace("/versions/", ":")
    return part.removeprefix("azureml:").replace("_", "").lower()


BROKEN = {
    "an unknown key": ("deployment", {"instance_typ": "Standard_DS3_v2"}),
    "no instance type": ("deployment", {"instance_type": None}),
    "a probe without a number": ("deployment", {"liveness_probe": {"period": "often"}}),
    "no model's name": ("deployment", {"model": "flights-late"}),
    "a way in that is none": ("endpoint", {"auth_mode": "password"}),
    "a name that is none": ("endpoint", {"name": None}),
    "traffic above all": ("endpoint", {"traffic": {"a": 60, "b": 60}}),
    "a route without a port": (
        "environment", {"inference_config": {"scoring_route": {"path": "/invocations"}}}
    ),
    "an unknown setting": ("batch-deployment", {"settings": {"mini_batches": 3}}),
    "an output that is none": ("batch-deployment", {"settings": {"output_action": "print"}}),
    "a way in to batches that is none": ("batch-endpoint", {"auth_mode": "password"}),
}  # fmt: skip


@pytest.mark.slow
def test_azure_mls_own_loader_refuses_what_is_broken(load, values, tmp_path):
    files = []
    for name, change in BROKEN.values():
        content = spec(name, values) | change
        broken = {key: value for key, value in content.items() if value is not None}
        files.append(written(name, broken, tmp_path))
    said = dict(zip(BROKEN, load(files), strict=True))
    assert not [what for what, answer in said.items() if "refused" not in answer], said


@pytest.mark.parametrize(
    ("name", "change", "line"),
    [
        ("deployment", {"instance_cuont": 2},
         "infra/azureml/deployment.yaml: instance_cuont: unknown key"),
        ("deployment", {"liveness_probe": {"perid": 2}},
         "infra/azureml/deployment.yaml: perid: unknown key; did you mean 'period'?"),
        ("deployment", {"model": "flights-late"},
         "infra/azureml: found 'flights-late', expected azureml:NAME:VERSION"),
    ],
)  # fmt: skip
def test_what_would_not_be_granted_is_refused_here_too(values, workspace, name, change, line):
    with pytest.raises(UserError) as error:
        bodies.deployment(spec(name, values) | change, workspace, "westeurope")
    assert str(error.value).startswith(line)


@pytest.mark.slow
def test_azure_mls_own_client_understands_what_the_stand_in_says(sdk, monkeypatch, tmp_path):
    """Its pollers and pagers, that is: the stand-in takes its time as the documented API does."""
    with Azure(polls=4) as azure:
        monkeypatch.setattr(arm, "PAUSE", 0.0)
        arm.signed_in.cache_clear()
        for name, value in azure.environment().items():
            monkeypatch.setenv(name, value)
        here = Endpoint("staging", "flights-late", REPOSITORY)
        digests = [small.made(tmp_path / str(slope), slope) for slope in (1.0, 2.0)]
        for number, (digest, slope) in enumerate(zip(digests, (1.0, 2.0), strict=True), 1):
            azureml.deploy(here, small.pin(digest, number), tmp_path / str(slope))
        first, second = map(specification.name_of, digests)
        said = sdk("azureml_client.py", azure.url, here.name, second, "100")
        assert said == {
            "state": "EndpointProvisioningState.SUCCEEDED", "traffic": {first: 0, second: 100},
            "deployments": sorted([first, second]), "digest": digests[1], "instances": 1,
            "timeout": "0:00:05",
        }  # fmt: skip
        assert azureml.current(here).traffic == {digests[1]: 100}


@pytest.mark.slow
def test_the_image_starts_as_azure_ml_starts_it(tmp_path):
    """The line of the Dockerfile, in a shell, with a model where Azure ML mounts one."""
    digest = small.made(tmp_path / "models/small-bundle/1/bundle", 2.0)
    lines = (REPOSITORY / FOLDER / "Dockerfile").read_text().splitlines()
    entry = json.loads(next(x for x in lines if x.startswith("ENTRYPOINT")).split(" ", 1)[1])
    port = "18083"
    entry[2] = entry[2].replace("0.0.0.0", f"127.0.0.1 --port {port}")
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    told = {"AZUREML_MODEL_DIR": str(tmp_path / "models/small-bundle/1"), "PATH": path,
            "MLOPS_MODEL_VERSION": "3"}  # fmt: skip
    service = subprocess.Popen(entry, env={**os.environ, **told})
    try:
        rows = {"dataframe_records": [{"x": 0.0, "z": 0.0}]}
        retried = requests.Session()
        retry = requests.adapters.Retry(total=40, backoff_factor=0.1, backoff_max=1)
        retried.mount("http://", requests.adapters.HTTPAdapter(max_retries=retry))
        answer = retried.post(f"http://127.0.0.1:{port}/invocations", json=rows)
    finally:
        service.terminate()
        service.wait()
    assert answer.json() == {"predictions": [{"probability": 0.5}]}
    assert (answer.headers["x-model-digest"], answer.headers["x-model-version"]) == (digest, "3")
