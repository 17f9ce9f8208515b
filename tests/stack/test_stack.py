"""The team's servers run what is due, and lose nothing when one of them goes."""

from __future__ import annotations

import json
import os
import subprocess
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from mlops.base.files import folder_digest

pytestmark = pytest.mark.slow
TREE = Path(".run/retrain/tree")
DEPLOYMENTS = {
    "retraining/training": {"until": "2013-02-28", "because": "on schedule"},
    "monitoring/monitoring-staging": {},
    "monitoring/monitoring-production": {},
    "scoring/scoring": {},
}


def one_line(done, code):
    assert done.returncode == code, done.stderr
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    assert len(lines) == 1, done.stderr
    return lines[0]


def executed(team):
    """The stages that really ran in the retraining's tree, in order."""
    logs = team.desk.glob(f".run/worker/revisions/*/{TREE}/logs/stages.jsonl")
    return [json.loads(line)["stage"] for log in logs for line in log.read_text().splitlines()]


def wait_for(team, stage, after=0):
    deadline = time.monotonic() + 240
    while stage not in executed(team)[after:]:
        assert time.monotonic() < deadline, team.log("worker")
        time.sleep(0.1)


def test_the_worker_finishes_a_due_run_of_each_deployment(team):
    runs = {name: team.due(name, **parameters) for name, parameters in DEPLOYMENTS.items()}
    runs["reconcile-check/reconcile-check"] = team.due("reconcile-check/reconcile-check")
    states = {name: team.ended(run) for name, run in runs.items()}
    differs = states.pop("reconcile-check/reconcile-check")
    assert {name: state.name for name, state in states.items()} == dict.fromkeys(
        DEPLOYMENTS, "Completed"
    ), team.log("worker")
    # Nothing was deployed: that it says so is its work.
    assert (differs.name, "runs nothing, pinned is" in differs.message) == ("Failed", True)


def test_a_run_is_the_pinned_revision(team):
    head = team.world.git("rev-parse", "origin/main")
    assert team.clone.name == head
    # What outlives it is the repository's own.
    assert (team.clone / ".dvc/cache").resolve() == team.desk / ".dvc/cache"
    assert (team.desk / ".run/scored").is_dir()


def test_of_two_that_are_due_at_once_one_runs(team):
    runs = [team.due("monitoring/monitoring-staging") for _ in range(2)]
    assert sorted(team.ended(run).name for run in runs) == ["Cancelled", "Completed"]


def test_deploying_again_changes_nothing(team):
    async def counted(client):
        found = await client.read_deployments()
        automations = await client.read_automations()
        return len(found), sorted(automation.name for automation in automations)

    before = team.ask(counted)
    said = team.run("-m", "flows", "deploy")
    assert (said.returncode, team.ask(counted)) == (0, before)
    assert before[0] == 5
    assert before[1] == ["drift-retrains", "mlops: lost run"]
    assert "no notices: MLOPS_NOTIFY names no address" in said.stdout


def test_what_was_pushed_comes_back_from_the_store(team, tmp_path):
    digest = folder_digest(team.desk / "models/bundle")
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "-q", team.world.origin, clone], check=True)
    done = subprocess.run(
        ["dvc", "pull", "-q", "models/bundle"], cwd=clone, env=team.env, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert folder_digest(clone / "models/bundle") == digest


def test_an_artifact_goes_through_mlflow_to_the_store_without_the_clients_key(team):
    code = (
        "import mlflow; uri = mlflow.start_run().info.artifact_uri;"
        "mlflow.log_text('kept', 'a/b.txt');"
        "print(uri, mlflow.artifacts.load_text(uri + '/a/b.txt'))"
    )
    done = team.run("-c", code, AZURE_STORAGE_CONNECTION_STRING="")
    assert done.returncode == 0, done.stderr
    uri, text = done.stdout.splitlines()[0].split()
    assert (uri.split(":")[0], text) == ("mlflow-artifacts", "kept")


def test_a_killed_worker_loses_no_stage_that_was_done(team):
    lost = team.due("retraining/training", until="2013-03-10", because="a test")
    wait_for(team, "featurize")
    # Its output is in the cache once the next one has begun.
    deadline = time.monotonic() + 60
    while not team.runs("mlops.training.tune"):
        assert time.monotonic() < deadline, team.log("worker")
        time.sleep(0.1)
    team.kill("worker")
    before = executed(team)
    assert "train" not in before

    # What the automation does once the run has been silent for some minutes.
    become(team, lost, "Crashed")
    team.revive()
    again = team.due("retraining/training", until="2013-03-10", because="a test")
    wait_for(team, "tune", len(before))
    # The server goes down under the run, and comes back.
    team.kill("prefect")
    team.revive()
    assert team.ended(again, 300).name == "Completed", team.log("worker")
    after = executed(team)[len(before) :]
    assert "ingest" not in after
    assert "featurize" not in after
    assert after[-1] == "evaluate"
    branches = team.world.git("ls-remote", "--heads", "origin").splitlines()
    assert [line.split("/", 2)[2] for line in branches] == ["main", "retrain/data"]


@pytest.fixture
def without(team):
    """The stack with one of its servers gone, until the test is over."""
    yield team.kill
    team.revive()


@pytest.fixture(scope="module")
def told(team):
    """What people are told at the address of their notices, while no worker takes a run."""
    told = []

    class Webhook(BaseHTTPRequestHandler):
        def do_POST(self):
            said = json.loads(self.rfile.read(int(self.headers["content-length"])))
            told.append((said["title"], said["message"]))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    team.kill("worker")
    with ThreadingHTTPServer(("127.0.0.1", 0), Webhook) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        address = f"json://127.0.0.1:{server.server_port}"
        said = team.run("-m", "flows", "deploy", MLOPS_NOTIFY=address)
        assert said.returncode == 0, said.stderr
        assert "automation mlops: drift" in said.stdout
        yield told
        server.shutdown()
    team.revive()


def eventually(ask, seconds=60):
    """What is found in the end; a failure says what was found last."""
    deadline = time.monotonic() + seconds
    while not (found := ask()):
        assert time.monotonic() < deadline, found
        time.sleep(0.5)
    return found


def become(team, run, kind, message=None):
    """Say of a run that it has come into one of Prefect's states."""

    async def set_state(client):
        from prefect import states

        await client.set_flow_run_state(run, getattr(states, kind)(message=message))

    team.ask(set_state)


def test_a_drift_event_starts_training_with_its_reason_and_tells_people(team, told):
    reason = "production: the scores have moved"
    event = (
        "from prefect.events import emit_event; emit_event('mlops.drift',"
        "resource={'prefect.resource.id': 'mlops.environment.production'},"
        f"payload={{'reason': {reason!r}}})"
    )
    assert team.run("-c", event).returncode == 0

    async def asked_for(client):
        runs = await client.read_flow_runs()
        return [run for run in runs if run.parameters.get("because") == reason]

    eventually(lambda: told)
    assert told[0] == ("mlops: drift", reason)
    (run,) = eventually(lambda: team.ask(asked_for))
    become(team, run.id, "Cancelled")


def test_a_run_that_nobody_takes_is_told_to_people_and_so_is_one_that_fails(team, told):
    run = team.due("monitoring/monitoring-staging")

    async def name(client):
        return (await client.read_flow_run(run)).name

    called = team.ask(name)
    late = f"monitoring-staging, {called}: due at 20"
    eventually(
        lambda: any(title == "mlops: late run" and body.startswith(late) for title, body in told),
        seconds=120,
    )
    become(team, run, "Failed", "no memory left")
    eventually(lambda: ("mlops: failed run", f"{called}: no memory left") in told)


@pytest.fixture
def full(team, tmp_path):
    """A store of a few kilobytes in DVC's local settings, until the test is over."""
    if os.geteuid() != 0:
        pytest.skip("only root can make a small file system")
    made = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", tmp_path]
    if subprocess.run(made, capture_output=True).returncode:
        pytest.skip("this machine lets nobody make a file system")
    local = team.desk / ".dvc/config.local"
    local.write_text(f"['remote \"small\"']\n    url = {tmp_path}\n[core]\n    remote = small\n")
    yield
    local.unlink()
    subprocess.run(["umount", tmp_path], check=True)


def test_a_store_that_is_full_is_said_in_one_line_and_costs_nothing(team, full):
    digest = folder_digest(team.desk / "models/bundle")
    line = one_line(team.mlops("publish"), 2)
    assert line.startswith("error: DVC remote 'small': ")
    assert folder_digest(team.desk / "models/bundle") == digest


def test_a_store_that_is_away_is_said_in_one_line_and_costs_nothing(team, without):
    digest = folder_digest(team.desk / "models/bundle")
    without("azurite")
    line = one_line(team.mlops("publish"), 2)
    assert line.startswith("error: DVC remote 'store': ")
    assert folder_digest(team.desk / "models/bundle") == digest


def test_a_database_that_is_away_is_said_in_one_line(team, without):
    without("postgres")
    line = one_line(team.mlops("register", MLFLOW_HTTP_REQUEST_MAX_RETRIES="0"), 2)
    assert line.startswith("error: MLFLOW_TRACKING_URI: ")
