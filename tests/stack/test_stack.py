"""The team's servers run the deployments, and lose nothing when one of them goes down."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import psutil
import pytest

from mlops.base import processes
from mlops.base.files import folder_digest

pytestmark = [pytest.mark.nightly, pytest.mark.timeout(1800)]


def test_the_worker_finishes_a_due_run_of_each_scheduled_deployment(team):
    rows = str(team.desk / "data/features/holdout.parquet")
    runs = {
        "monitoring": team.schedule("monitoring/monitoring"),
        "scoring": team.schedule("scoring/scoring", source=rows),
        "reconcile-check": team.schedule("reconcile-check/reconcile-check"),
    }
    states = {name: team.final_state(run) for name, run in runs.items()}
    # Nothing is deployed: reconcile-check has to fail and say so.
    difference = states.pop("reconcile-check")
    assert difference.name == "Failed", team.servers.log("worker")
    assert "runs nothing, pinned is" in difference.message
    assert {state.name for state in states.values()} == {"Completed"}, team.servers.log("worker")
    assert (team.desk / ".run/scored/production.parquet").is_file()
    # The code that ran was the deployed commit's, with the repository's own DVC cache.
    (clone,) = (team.desk / ".run/worker/revisions").iterdir()
    assert clone.name == team.git("rev-parse", "origin/main")
    assert (clone / ".dvc/cache").resolve() == team.desk / ".dvc/cache"
    query = team.servers.url("prometheus") + "/api/v1/query?query=mlops_monitoring_rows"

    def pushed():
        with urllib.request.urlopen(query) as response:
            return json.load(response)["data"]["result"]

    (sample,) = team.eventually(pushed)
    assert sample["metric"]["environment"] == "production"
    assert sample["metric"]["job"] == "mlops-monitoring"


def test_of_two_runs_that_are_due_at_once_one_runs(team):
    runs = [team.schedule("monitoring/monitoring") for _ in range(2)]
    assert sorted(team.final_state(run).name for run in runs) == ["Cancelled", "Completed"]


def test_deploying_again_changes_nothing(team):
    async def registered(client):
        deployments = await client.read_deployments()
        automations = await client.read_automations()
        return len(deployments), sorted(automation.name for automation in automations)

    before = team.prefect(registered)
    output = team.succeed("-m", "flows", "deploy")
    assert team.prefect(registered) == before == (4, ["drift-retrains", "mlops: lost run"])
    assert "no notices: MLOPS_NOTIFY names no address" in output


def test_a_clone_fetches_the_pinned_bundle_from_azurite_without_mlflow(team, tmp_path):
    clone = tmp_path / "clone"
    processes.run(["git", "clone", "-q", str(team.origin), str(clone)])
    code = (
        "from pathlib import Path; from mlops.deploy import manifest; from mlops.registry import "
        "store; print(store.fetch(manifest.load(Path(), 'production').pin, Path()).resolve())"
    )
    own = {"MLFLOW_TRACKING_URI": "", "PYTHONPATH": str(clone / "src")}
    fetched = processes.run([sys.executable, "-c", code], cwd=clone, env={**team.env, **own})
    made = folder_digest(team.desk / "models/bundle")
    assert folder_digest(Path(fetched.strip()) / "models/bundle") == made


def test_mlflow_proxies_artifacts_to_azurite_for_a_client_without_its_key(team):
    code = (
        "import mlflow; uri = mlflow.start_run().info.artifact_uri;"
        "mlflow.log_text('kept', 'a/b.txt');"
        "print(uri, mlflow.artifacts.load_text(uri + '/a/b.txt'))"
    )
    uri, text = team.succeed("-c", code, AZURE_STORAGE_CONNECTION_STRING="").split()[:2]
    assert (uri.split(":")[0], text) == ("mlflow-artifacts", "kept")


def executed(team):
    """The stages that really ran in the worker's retraining, in order."""
    logs = team.desk.glob(".run/worker/revisions/*/.run/retrain/tree/logs/stages.jsonl")
    return [json.loads(line)["stage"] for log in logs for line in log.read_text().splitlines()]


def runs(team, module):
    """Whether a process of the worker's runs a module."""
    return any(
        process.info["cmdline"][-1:] == [module]
        and (process.info["cwd"] or "").startswith(str(team.desk))
        for process in psutil.process_iter(["cmdline", "cwd"])
        if process.info["cmdline"]
    )


def test_a_killed_worker_and_a_lost_server_cost_no_finished_stage(team, stopped):
    from prefect.states import Crashed

    lost = team.schedule("retraining/training", until="2020-05-27", because="a test")
    # Once tune runs, featurize's output is in the cache.
    team.eventually(lambda: runs(team, "mlops.training.tune"))
    stopped("worker")
    before = executed(team)
    assert "train" not in before

    # What the automation does when the run has sent no heartbeat for some minutes.
    team.set_state(lost, Crashed())
    team.servers.start("worker")
    again = team.schedule("retraining/training", until="2020-05-27", because="a test")
    team.eventually(lambda: "tune" in executed(team)[len(before) :])
    stopped("prefect")
    team.servers.start("prefect")
    assert team.final_state(again).name == "Completed", team.servers.log("worker")
    after = executed(team)[len(before) :]
    assert {"ingest", "featurize"}.isdisjoint(after)
    assert after[-1] == "evaluate"
    branches = team.git("ls-remote", "--heads", "origin").splitlines()
    assert [line.split("/", 2)[2] for line in branches] == ["main", "retrain/data"]


@pytest.fixture(scope="module")
def notices(team):
    """Title and text of each notice that people get, while no worker takes a run."""
    received = []

    class Webhook(BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            received.append((body["title"], body["message"]))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    team.servers.kill("worker")
    with ThreadingHTTPServer(("127.0.0.1", 0), Webhook) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        address = f"json://127.0.0.1:{server.server_port}"
        output = team.succeed("-m", "flows", "deploy", MLOPS_NOTIFY=address)
        assert "automation mlops: drift" in output
        yield received
        server.shutdown()
    team.servers.start("worker")


def test_a_drift_event_starts_a_retraining_and_sends_a_notice(team, notices):
    from prefect.states import Cancelled

    reason = "production: the scores have moved"
    event = (
        "from prefect.events import emit_event; emit_event('mlops.drift',"
        "resource={'prefect.resource.id': 'mlops.environment.production'},"
        f"payload={{'reason': {reason!r}}})"
    )
    team.succeed("-c", event)

    async def requested(client):
        runs = await client.read_flow_runs()
        return [run for run in runs if run.parameters.get("because") == reason]

    assert team.eventually(lambda: list(notices)) == [("mlops: drift", reason)]
    (run,) = team.eventually(lambda: team.prefect(requested))
    team.set_state(run.id, Cancelled())


def test_late_and_failed_runs_send_a_notice(team, notices):
    from prefect.states import Failed

    run = team.schedule("monitoring/monitoring")
    name = team.prefect(lambda client: client.read_flow_run(run)).name
    late = f"monitoring, {name}: due at 20"
    team.eventually(
        lambda: any(title == "mlops: late run" and text.startswith(late) for title, text in notices)
    )
    team.set_state(run, Failed(message="no memory left"))
    team.eventually(lambda: ("mlops: failed run", f"{name}: no memory left") in notices)


@pytest.mark.parametrize(
    ("server", "verb", "line"),
    [
        ("azurite", "publish", "error: DVC remote 'store': "),
        ("postgres", "register", "error: MLFLOW_TRACKING_URI: "),
    ],
)
def test_a_command_without_its_store_fails_in_one_line(team, stopped, server, verb, line):
    stopped(server)
    command = [sys.executable, "-c", "from mlops.cli import main; main()", verb]
    done = subprocess.run(
        command, cwd=team.desk, env={**team.env, "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert [text for text in done.stderr.splitlines() if text.strip() and line not in text] == []
    assert line in done.stderr
