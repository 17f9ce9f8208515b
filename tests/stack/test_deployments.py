"""`prefect.yaml` as Prefect reads it: deployments, schedules, pools, what runs are given."""

from __future__ import annotations

import asyncio
import datetime as dt
import importlib
import re
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
import yaml
from rich.console import Console

from flows import checkout
from tests.stack.conftest import REPOSITORY

FILE = REPOSITORY / "prefect.yaml"
CONTENT = yaml.safe_load(FILE.read_text())
POOLS = ("process", "docker", "kubernetes", "azure")
TIMES = {
    "training": "0 4 * * 1", "monitoring-staging": "5 * * * *",
    "monitoring-production": "10 * * * *", "scoring": "0 2 * * *", "reconcile-check": "0 6 * * *",
}  # fmt: skip


@pytest.fixture(scope="module")
def loaded():
    from prefect.cli.deploy._config import _load_deploy_configs_and_actions

    said = Console(record=True, quiet=True)
    deployments, actions = _load_deploy_configs_and_actions(FILE, console=said)
    return {one["name"]: one for one in deployments}, actions


@pytest.fixture(scope="module")
def types():
    """The variables that each type of work pool knows, as the server has them."""
    from prefect.server.api.collections import get_collection_view

    view = asyncio.run(get_collection_view("aggregate-worker-metadata"))
    return {
        name: set(kind["default_base_job_configuration"]["variables"]["properties"])
        for package in view.values()
        for name, kind in package.items()
    }


def test_prefect_reads_five_deployments_with_schedule_zone_tags_limit_and_pool(loaded):
    deployments, actions = loaded
    assert {name: one["schedules"][0]["cron"] for name, one in deployments.items()} == TIMES
    for one in deployments.values():
        assert ZoneInfo(one["schedules"][0]["timezone"])
        assert one["tags"]
        assert one["concurrency_limit"] == {"limit": 1, "collision_strategy": "CANCEL_NEW"}
        assert one["work_pool"]["name"] == "process"
    assert [list(step) for step in actions["pull"]] == [["flows.checkout.enter"]]


@pytest.mark.parametrize("name", TIMES)
def test_parameters_are_what_the_flow_takes(loaded, name):
    one = loaded[0][name]
    module, flow = one["entrypoint"].removesuffix(".py").replace(".py:", ":").split(":")
    function = getattr(importlib.import_module(module.replace("/", ".")), flow)
    assert function.validate_parameters(one["parameters"]).keys() == one["parameters"].keys()


@pytest.mark.parametrize("pool", POOLS)
def test_what_a_run_is_given_is_known_to_its_type_of_pool(types, pool):
    said = CONTENT["definitions"][pool]
    assert set(said["job_variables"]) <= types[said["name"]]


def test_one_line_says_where_everything_runs():
    lines = [line for line in FILE.read_text().splitlines() if "&pool" in line]
    assert len(lines) == 1
    assert {str(one["work_pool"]) for one in CONTENT["deployments"]} == {
        str(CONTENT["definitions"]["pool"])
    }


def test_no_secret_and_no_address_stands_in_it():
    assert re.findall(r"https?://|password|secret|token", FILE.read_text(), re.IGNORECASE) == []


@pytest.mark.parametrize("name", TIMES)
@pytest.mark.parametrize("day", ["2026-03-07", "2026-10-31"])
def test_when_the_clock_is_changed_nothing_is_due_twice(loaded, name, day):
    from prefect.client.schemas.schedules import CronSchedule
    from prefect.server.schemas.schedules import CronSchedule as ServersCronSchedule

    schedule = loaded[0][name]["schedules"][0]
    client = CronSchedule(cron=schedule["cron"], timezone=schedule["timezone"])
    server = ServersCronSchedule(cron=client.cron, timezone=client.timezone)
    start = dt.datetime.fromisoformat(day).replace(tzinfo=dt.UTC)
    dates = asyncio.run(server.get_dates(200, start, start + dt.timedelta(days=3)))
    moments = [date.astimezone(dt.UTC) for date in dates]
    assert moments == sorted(set(moments))
    if "*" in schedule["cron"].split()[1]:
        apart = {(later - earlier).total_seconds() for earlier, later in pairwise(moments)}
        # The hour that comes twice is watched once.
        assert apart <= {3600, 7200}
    else:
        days = [date.astimezone(ZoneInfo(schedule["timezone"])).date() for date in dates]
        assert len(days) == len(set(days))


def test_what_outlives_a_revision_is_ignored_by_git():
    ignored = (REPOSITORY / ".gitignore").read_text() + (REPOSITORY / ".dvc/.gitignore").read_text()
    assert all(f"/{name.split('/')[0]}" in ignored or "/cache" in ignored for name in checkout.KEPT)
