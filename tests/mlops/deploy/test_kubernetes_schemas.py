"""Objects for a cluster against the schemas of Kubernetes, KServe and the Gateway API."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests import apart
from tests.conftest import Shared
from tests.mlops.deploy.kubernetes_objects import FOLDER, OVERLAYS, rendered
from tests.programs import program

pytestmark = [pytest.mark.slow, pytest.mark.nightly]
# The schemas of the oldest version that clouds still run, and of the newest one there is.
VERSIONS = ("-k", "1.32", "-k", "1.37")
GATEWAY_API = "@kubernetes-models/gateway-api/gateway.networking.k8s.io/v1/HTTPRoute"
# Excess keys are refused where an object is written out as one of a type.
ROUTE = """\
import {{ HTTPRoute }} from "{0}";
/** @type {{import("{0}").IHTTPRoute}} */
const route = {1};
new HTTPRoute(route).validate();
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
def check_route(tmp_path: Path) -> Callable[[Any], str]:
    """What the Gateway API's types, and its rules for values, say against a route."""
    compiler = program("tsc", "npm ci --prefix infra/kubernetes", FOLDER / "node_modules/.bin")
    (tmp_path / "node_modules").symlink_to(FOLDER / "node_modules")
    (tmp_path / "package.json").write_text('{"type": "module"}')

    def check(route: Any) -> str:
        (tmp_path / "route.js").write_text(ROUTE.format(GATEWAY_API, json.dumps(route)))
        commands = [[compiler, *TYPES.split(), "route.js"], ["node", "route.js"]]
        done = [subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
                for command in commands]  # fmt: skip
        return "".join(one.stdout + one.stderr for one in done if one.returncode)

    return check


def test_the_gateway_api_accepts_every_route(environment, sent, check_route):
    (route,) = [one for one in sent(environment) if one["kind"] == "HTTPRoute"]
    assert check_route(route) == ""


@pytest.mark.parametrize(("old", "new", "line"), [
    ('"percent"', '"percents"', "\"percents\"' does not exist in type 'IHTTPRequestMirrorFilter'"),
    ('"parentRefs"', '"parentRef"', "\"parentRef\"' does not exist in type 'IHTTPRouteSpec'"),
    ('"RequestMirror"', '"Mirror"', "type must be equal to one of the allowed values"),
    ('"weight": 90', '"weight": 9000000', "weight must be <= 1000000"),
])  # fmt: skip
def test_the_gateway_api_refuses_a_wrong_route(sent, check_route, old, new, line):
    (route,) = [one for one in sent("staging") if one["kind"] == "HTTPRoute"]
    assert line in check_route(broken(route, old, new))
