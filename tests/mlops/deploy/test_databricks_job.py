"""A job that is run and watched, on a workspace that answers with the fields that the SDK reads."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import Any

import pytest

from mlops.base.errors import UserError
from mlops.deploy.databricks import endpoint, job
from tests.conftest import REPOSITORY
from tests.mlops.deploy.cloud import Answer, Cloud, Fault

NAME, PAGE = "mlops-stages", "https://there/jobs/11/runs/455"
# The states of the tasks and of the run, request by request.
STATES: Any = (
    ({"ingest": ("PENDING", None)}, ("PENDING", None)),
    ({"ingest": ("RUNNING", None), "tune": ("BLOCKED", None)}, ("RUNNING", None)),
    ({"ingest": ("TERMINATED", "SUCCESS"), "tune": ("RUNNING", None)}, ("RUNNING", None)),
    ({"ingest": ("TERMINATED", "SUCCESS"), "tune": ("TERMINATED", "SUCCESS")},
     ("TERMINATED", "SUCCESS")),
)  # fmt: skip


class Jobs(Cloud):
    """A workspace with one job."""

    routes = (
        (r"GET /api/2\.2/jobs/list", "list"),
        (r"POST /api/2\.2/jobs/run-now", "start"),
        (r"GET /api/2\.2/jobs/runs/get", "get"),
    )
    jobs, states, reason = [{"job_id": 11, "settings": {"name": NAME}}], list(STATES), ""

    def list(self, call):
        found = [one for one in self.jobs if one["settings"]["name"] == call.query["name"]]
        return Answer(200, {"jobs": found, "has_more": False})

    def start(self, call):
        assert call.body["job_id"] == 11
        self.tokens = [*getattr(self, "tokens", ()), call.body["idempotency_token"]]
        return Answer(200, {"run_id": 455, "number_in_job": 455})

    def get(self, call):
        tasks, run = self.states.pop(0)
        return Answer(200, {
            "run_id": int(call.query["run_id"]), "run_page_url": PAGE,
            "state": {**_state(*run), "state_message": self.reason},
            "tasks": [{"task_key": key, "state": _state(*state)} for key, state in tasks.items()],
        })  # fmt: skip


def _state(life_cycle, result):
    return {"life_cycle_state": life_cycle, **({"result_state": result} if result else {})}


@pytest.fixture
def workspace(monkeypatch):
    with Jobs() as server:
        server.states = list(STATES)
        monkeypatch.setenv("DATABRICKS_HOST", server.url)
        monkeypatch.setenv("DATABRICKS_TOKEN", "mine")
        monkeypatch.setattr(time, "sleep", lambda _: None)
        endpoint.client.cache_clear()
        yield server
        endpoint.client.cache_clear()


def test_each_change_of_a_task_is_shown_once(workspace):
    lines = []
    assert job.run(NAME, lines.append) == PAGE
    assert lines == ["ingest: PENDING", "ingest: RUNNING", "tune: BLOCKED", "ingest: SUCCESS",
                     "tune: RUNNING", "tune: SUCCESS"]  # fmt: skip


@pytest.mark.parametrize(
    ("run", "line"),
    [(("TERMINATED", "FAILED"), "found FAILED, expected SUCCESS: tune failed"),
     (("TERMINATED", "CANCELED"), "found CANCELED, expected SUCCESS"),
     (("SKIPPED", None), "found SKIPPED, expected SUCCESS"),
     (("INTERNAL_ERROR", "FAILED"), "found FAILED, expected SUCCESS: tune failed")],
)  # fmt: skip
def test_a_job_that_fails_is_refused_with_databricks_reason(workspace, run, line):
    workspace.states, workspace.reason = [*STATES[:2], ({}, run)], "tune failed"
    with pytest.raises(UserError, match=line) as refused:
        job.run(NAME, print)
    assert len(str(refused.value).splitlines()) == 1


def test_a_job_that_is_not_deployed_is_said(workspace):
    with pytest.raises(UserError, match="jobs of the name 'mlops-stage': found 0, expected 1"):
        job.run("mlops-stage", print)


def test_a_lost_response_starts_no_second_run(workspace):
    workspace.faults = [Fault("POST .*run-now", 503, {"message": "busy"}, {"Retry-After": "0"})]
    job.run(NAME, print)
    starts = [line for line in workspace.log if line.endswith("run-now")]
    assert len(starts) == 2
    assert len(workspace.tokens) == 1


def test_who_may_not_run_it_is_told_what_is_needed(workspace):
    denied = {"error_code": "PERMISSION_DENIED", "message": "You may not."}
    workspace.faults = [Fault("POST .*run-now", 403, denied)]
    with pytest.raises(UserError, match="CAN MANAGE RUN on the job"):
        job.run(NAME, print)


@pytest.mark.nightly
@pytest.mark.slow
def test_prefect_shows_the_job_s_progress(workspace, tmp_path):
    workspace.states = [STATES[-1]]
    path = os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "src")])
    env = {**os.environ, "PYTHONPATH": path, "PREFECT_HOME": str(tmp_path / "prefect")}
    command = [sys.executable, "-m", "flows", "databricks_job", f"job={NAME}"]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True,
                          check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "tune: SUCCESS" in done.stdout
