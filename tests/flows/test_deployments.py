"""`make up`, `make deploy-flows` and `make worker` in a fresh clone, and what they then run."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from types import SimpleNamespace

import pytest

from mlops.base import processes
from tests.repository_copy import rewrite
from tests.settings import change
from tests.stack.conftest import Team
from tests.test_first_day import begun

pytestmark = [pytest.mark.slow, pytest.mark.nightly, pytest.mark.timeout(1800)]
DEPLOYMENTS = (
    *("retraining/training", "monitoring/monitoring-staging", "monitoring/monitoring-production"),
    *("scoring/scoring", "reconcile-check/reconcile-check"),
)


def make(team, target):
    return processes.run(["make", target], cwd=team.desk, env=team.env)


def state(team):
    return json.loads((team.desk / ".run/servers.json").read_text())


def deploy(team):
    team.push("A change")
    make(team, "deploy-flows")


@pytest.fixture(scope="module")
def team(tmp_path_factory):
    """A clone in a path with a space, without an environment, and a worker that runs there."""
    base = tmp_path_factory.mktemp("a team")
    log = base / "worker.log"
    team = Team(base, SimpleNamespace(environment={}, log=lambda _: log.read_text()[-6000:]))
    project = begun("diabetes", base / "project")
    for words in (("branch", "-M", "main"), ("clone", "-q", "--bare", ".", str(team.origin)),
                  ("clone", "-q", str(team.origin), str(team.desk))):  # fmt: skip
        subprocess.run(["git", *words], cwd=project, check=True)
    shutil.copytree(project / "raw", team.desk / "raw")
    change(team.desk, {"data.until": "2020-05-07", "tune.families": ["lightgbm"],
                       "tune.max_evals": 1, "split.folds": 1})  # fmt: skip
    # No run is due by itself.
    rewrite(team.desk / "prefect.yaml", 'cron: "[^"]*"', 'cron: "0 4 1 1 *"')
    team.git("config", "user.name", "Maria")
    team.git("config", "user.email", "maria@team.invalid")
    try:
        make(team, "up")
        team.servers.environment["PREFECT_API_URL"] = f"{state(team)['urls']['prefect']}/api"
        deploy(team)
        with log.open("wb") as to:
            subprocess.Popen(["make", "worker"], cwd=team.desk, env=team.env, stdout=to, stderr=to)
        yield team
        assert "still runs: flows worker (process " in make(team, "down")
    finally:
        make(team, "down")
        for pid, _, command in processes.working_in(base):
            if command[1:4] == ["-m", "flows", "worker"]:
                os.kill(pid, signal.SIGTERM)


def test_every_deployment_runs_to_its_end_from_nothing(team):
    runs = {name: team.schedule(name) for name in DEPLOYMENTS}
    ends = {name: team.final_state(run) for name, run in runs.items()}
    assert {state.name for state in ends.values()} == {"Completed"}, team.servers.log("worker")
    waiting = "nothing is deployed yet: environments/production.yaml: pins nothing to"
    assert ends["monitoring/monitoring-production"].message == f"{waiting} watch"
    assert ends["scoring/scoring"].message == f"{waiting} score with"
    assert "refs/heads/retrain/data" in team.git("ls-remote", "origin")


def test_the_end_of_a_run_is_known_when_prefects_server_has_died_and_came_back(team):
    before = state(team)
    # What it makes was made by the test before, and is restored.
    run, flow = team.schedule("retraining/training"), ["-m", "flows", "training"]
    team.eventually(lambda: any(c[1:4] == flow for *_, c in processes.working_in(team.base)))
    os.killpg(before["pids"]["prefect"], signal.SIGKILL)
    server = f"PREFECT_API_URL={before['urls']['prefect']}/api"
    assert f"{server} .venv/bin/prefect deployment run " in make(team, "up")
    assert state(team)["pids"]["mlflow"] == before["pids"]["mlflow"]
    end = team.final_state(run)
    assert end.name == "Completed" or "PREFECT_API_URL: Failed to reach" in end.message


def test_a_failed_run_says_the_error_of_its_own_command(team):
    async def triggers(client):
        return [each.trigger for each in await client.read_automations()]

    before = team.prefect(triggers)
    change(team.desk, {"data.until": "2020-05-06", "split.holdout_days": 5000})
    deploy(team)
    # The server still knows which runs it waits for.
    assert team.prefect(triggers) == before
    failed = team.final_state(team.schedule("retraining/training"))
    assert "training: params.yaml: split.holdout_days: found 5000" in failed.message
    # A lock that can't be installed; the clone's own environment stays.
    rewrite(team.desk / "requirements.lock", r"^uv==\S+", "uv==0.0.0")
    os.utime(team.desk / "requirements.lock", (0, 0))
    deploy(team)
    failed = team.final_state(team.schedule("retraining/training"))
    assert failed.name == "Failed"
    assert "No matching distribution found for uv==0.0.0" in failed.message
