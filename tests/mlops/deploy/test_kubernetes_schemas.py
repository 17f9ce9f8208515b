"""Objects for a cluster against the schemas of those who read them."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests import apart
from tests.conftest import REPOSITORY, Shared
from tests.mlops.deploy.kubernetes_objects import FOLDER, OVERLAYS, rendered
from tests.programs import program

pytestmark = [pytest.mark.slow, pytest.mark.nightly]
RULES = REPOSITORY / "infra/local/prometheus/rules.yml"
# The schemas of the oldest version that clouds still run, and of the newest one there is.
VERSIONS = ("-k", "1.32", "-k", "1.37")
MODELS = {
    "HTTPRoute": "@kubernetes-models/gateway-api/gateway.networking.k8s.io/v1/HTTPRoute",
    "PodMonitor": "@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1/PodMonitor",
}
# Excess keys are refused where an object is written out as one of a type.
MODULE = """\
import {{ {0} }} from "{1}";
/** @type {{import("{1}").I{0}}} */
const object = {2};
new {0}(object).validate();
"""
TYPES = "--noEmit --strict --allowJs --checkJs --skipLibCheck --module nodenext --target es2022"


@pytest.fixture(scope="session")
def validators(shared: Shared) -> Path:
    """The programs of infra/kubernetes/tests.lock."""
    lock = FOLDER / "tests.lock"
    return shared.folder("kubernetes", lambda folder: apart.environment(lock, folder)) / "bin"


def test_kubernetes_own_schemas_accept_every_object(validators, sent, tmp_path):
    file = tmp_path / "objects.yaml"
    command = [validators / "kubernetes-validate", "--strict", *VERSIONS, file]
    documents = [one for environment in OVERLAYS for one in sent(environment)
                 if one["kind"] != "HTTPRoute"]  # fmt: skip
    file.write_text(yaml.safe_dump_all(documents))
    lines = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    assert [line.split()[0] for line in lines.splitlines()] == 2 * len(documents) * ["INFO"], lines


def broken(document: Any, old: str, new: str) -> Any:
    text = json.dumps(document)
    assert old in text
    return json.loads(text.replace(old, new))


def test_kserves_own_models_accept_its_objects_and_no_others(validators):
    (service,) = rendered("kserve")
    refused = {
        ("minReplicas", "minReplica"): "predictor.minReplica: found 1, KServe keeps None",
        ('"scaleTarget": 32', '"scaleTarget": "32"'): "scaleTarget: found '32', KServe keeps 32",
        ("readOnlyRootFilesystem", "readOnlyRootFileSystem"): "readOnlyRootFileSystem: found True",
        ('"predictor"', '"predicter"'): "`predictor`, must not be `None`",
    }
    objects = [service, *(broken(service, *change) for change in refused)]
    script = Path(__file__).with_name("kserve_objects.py")
    output = subprocess.run(
        [validators / "python", script], input=json.dumps(objects),
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    lines = output.splitlines()
    for number, line in enumerate(refused.values(), 1):
        found = [one for one in lines if one.startswith(f"{number}: ")]
        assert any(line in one for one in found), output
    assert not any(one.startswith("0: ") for one in lines), output


@pytest.fixture
def check(tmp_path: Path) -> Callable[[Any], str]:
    """What the types of an object's kind, and its rules for values, say against it."""
    compiler = program("tsc", "npm ci --prefix infra/kubernetes", FOLDER / "node_modules/.bin")
    (tmp_path / "node_modules").symlink_to(FOLDER / "node_modules")
    (tmp_path / "package.json").write_text('{"type": "module"}')

    def said(document: Any) -> str:
        kind = document["kind"]
        text = MODULE.format(kind, MODELS[kind], json.dumps(document))
        (tmp_path / "object.js").write_text(text)
        commands = [[compiler, *TYPES.split(), "object.js"], ["node", "object.js"]]
        done = [subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
                for command in commands]  # fmt: skip
        return "".join(one.stdout + one.stderr for one in done if one.returncode)

    return said


def test_the_gateway_api_accepts_every_route(environment, sent, check):
    (route,) = [one for one in sent(environment) if one["kind"] == "HTTPRoute"]
    assert check(route) == ""


@pytest.mark.parametrize(("old", "new", "line"), [
    ('"parentRefs"', '"parentRef"', "\"parentRef\"' does not exist in type 'IHTTPRouteSpec'"),
    ('"weight": 90', '"weight": 9000000', "weight must be <= 1000000"),
])  # fmt: skip
def test_the_gateway_api_refuses_a_wrong_route(sent, check, old, new, line):
    (route,) = [one for one in sent("staging") if one["kind"] == "HTTPRoute"]
    assert line in check(broken(route, old, new))


def test_azures_agent_scrapes_the_pods_by_the_names_that_alerts_know(check, sent):
    (deployment, *_) = [one for one in sent("staging") if one["kind"] == "Deployment"]
    pod = deployment["spec"]["template"]
    monitors = {one["metadata"]["name"]: one for one in rendered("azure-monitor")}
    for name, document in monitors.items():
        assert document["apiVersion"] == "azmonitoring.coreos.com/v1"
        # Azure's kinds are those of the operator in a group of its own.
        own = {**document, "apiVersion": "monitoring.coreos.com/v1"}
        assert check(own) == ""
        (scraped,) = document["spec"]["podMetricsEndpoints"]
        assert scraped["relabelings"] == [{"targetLabel": "job", "replacement": name}]
        assert f'up{{job="{name}"}}' in RULES.read_text()
    spec = monitors["scoring"]["spec"]
    assert spec["selector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
    assert {f"mlops-{environment}" for environment in OVERLAYS} == {
        *spec["namespaceSelector"]["matchNames"]
    }
    ports = {port["name"] for one in pod["spec"]["containers"] for port in one["ports"]}
    assert spec["podMetricsEndpoints"][0]["port"] in ports
