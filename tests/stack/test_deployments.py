"""`prefect.yaml` as Prefect reads it: the flows take its parameters, the pools its variables."""

from __future__ import annotations

import asyncio
import importlib
import subprocess

import pytest
import yaml
from rich.console import Console

from flows import checkout
from tests.conftest import REPOSITORY

SHIPPED = REPOSITORY / "prefect.yaml"
OWN = REPOSITORY / "tests/stack/repository/prefect.yaml"


@pytest.mark.slow
@pytest.mark.parametrize("file", [SHIPPED, OWN], ids=["shipped", "of the tests"])
def test_every_flow_takes_the_parameters_of_its_deployments(file):
    """As Prefect reads them, which fills in what the file says once for several."""
    from prefect.cli.deploy._config import _load_deploy_configs_and_actions

    deployments, actions = _load_deploy_configs_and_actions(file, console=Console(quiet=True))
    assert deployments
    for deployment in deployments:
        path, flow = deployment["entrypoint"].split(":")
        module = importlib.import_module(path.removesuffix(".py").replace("/", "."))
        parameters = deployment["parameters"]
        assert getattr(module, flow).validate_parameters(parameters).keys() == parameters.keys()
    assert [list(step) for step in actions["pull"]] == [["flows.checkout.enter"]]


def test_every_pool_takes_the_variables_of_its_runs():
    from prefect.server.api.collections import get_collection_view

    view = asyncio.run(get_collection_view("aggregate-worker-metadata"))
    variables = {
        name: set(pool["default_base_job_configuration"]["variables"]["properties"])
        for package in view.values()
        for name, pool in package.items()
    }
    definitions = yaml.safe_load(SHIPPED.read_text())["definitions"].values()
    pools = [each for each in definitions if "job_variables" in each]
    assert pools
    for pool in pools:
        assert set(pool["job_variables"]) <= variables[pool["name"]], pool["name"]


def test_git_ignores_what_several_revisions_share():
    folders = [f"{name}/" for name in checkout.KEPT]
    command = ["git", "check-ignore", *folders]
    ignored = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert ignored.stdout.split() == folders
