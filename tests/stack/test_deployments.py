"""`prefect.yaml` as Prefect reads it: the flows take its parameters, the pools its variables."""

from __future__ import annotations

import asyncio
import datetime as dt
import importlib
import subprocess
from zoneinfo import ZoneInfo

import pytest
import yaml
from rich.console import Console

from flows import checkout
from tests.conftest import REPOSITORY

SHIPPED = REPOSITORY / "prefect.yaml"
OWN = REPOSITORY / "tests/stack/repository/prefect.yaml"


@pytest.fixture(scope="module", params=[SHIPPED, OWN], ids=["shipped", "of the tests"])
def loaded(request):
    """Deployments and common actions of a file."""
    from prefect.cli.deploy._config import _load_deploy_configs_and_actions

    return _load_deploy_configs_and_actions(request.param, console=Console(quiet=True))


def test_every_flow_takes_the_parameters_of_its_deployments(loaded):
    deployments, actions = loaded
    assert deployments
    for deployment in deployments:
        file, flow = deployment["entrypoint"].split(":")
        module = importlib.import_module(file.removesuffix(".py").replace("/", "."))
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


@pytest.mark.parametrize("cron", ["5 * * * *", "0 2 * * *"])
@pytest.mark.parametrize("day", ["2026-03-07", "2026-10-31"])
def test_when_the_clocks_change_no_schedule_is_due_twice(cron, day):
    from prefect.server.schemas.schedules import CronSchedule

    zone = ZoneInfo("America/New_York")
    start = dt.datetime.fromisoformat(day).replace(tzinfo=dt.UTC)
    schedule = CronSchedule(cron=cron, timezone=zone.key)
    dates = asyncio.run(schedule.get_dates(200, start, start + dt.timedelta(days=3)))
    moments = [date.astimezone(dt.UTC) for date in dates]
    assert moments == sorted(set(moments))
    if cron == "0 2 * * *":
        days = [date.astimezone(zone).date() for date in dates]
        assert len(days) == len(set(days))


def test_git_ignores_what_several_revisions_share():
    folders = [f"{name}/" for name in checkout.KEPT]
    command = ["git", "check-ignore", *folders]
    ignored = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert ignored.stdout.split() == folders
