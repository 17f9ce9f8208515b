"""The training flow: DVC decides what runs, Prefect sees it, the screen says it."""

import json
import re
import shutil
import urllib.request

import pytest

pytestmark = pytest.mark.slow

STAGES = ("ingest", "featurize", "tune", "train", "evaluate")
TASKS = (*STAGES, "register")


def stage_lines(out):
    """What the screen says of each stage: its name, and how it came by its output."""
    lines = out.split("\n\n")[0].splitlines()
    return {line.split()[0]: line.split()[1] for line in lines}


def ask(served, what, **body):
    """One of Prefect's own questions, put to its REST interface."""
    request = urllib.request.Request(
        f"{served.urls['prefect']}/api/{what}/filter",
        json.dumps(body).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.load(answer)


@pytest.fixture(scope="module")
def without_outputs(served):
    """The flow after all outputs were removed, what it made, and the stages that ran for it."""
    before, made = len(served.checkout.executed()), served.checkout.outputs()
    for folder in ("data", "models", "reports"):
        shutil.rmtree(served.checkout.root / folder)
    ended = served.checkout.flow()
    return ended, served.checkout.outputs() == made, served.checkout.executed()[before:]


def test_the_first_flow_runs_every_stage_and_prints_a_line_for_each_then_the_outcome(served):
    out = served.first.out
    assert (served.first.code, served.first.err) == (0, "")
    assert served.checkout.executed()[:5] == list(STAGES)
    assert stage_lines(out) == dict.fromkeys(TASKS, "run")
    stages, table, where = out.strip().split("\n\n")
    assert all(re.match(r"\w+ +run +\d+\.\d s   \S", line) for line in stages.splitlines())
    assert all(line.startswith("| ") or set(line) <= set("|-") for line in table.splitlines())
    assert re.search(r"\| registered +\| trips-model, version 1 +\|", table)
    assert re.search(r"\| holdout roc_auc +\| 0\.\d{4} \(0\.\d{4} to 0\.\d{4}\) \|", table)
    assert re.search(r"\| majority class +\| 0\.5000 +\|", table)
    assert [line.split()[0] for line in where.splitlines()] == ["done", "mlflow:", "prefect:"]
    assert "the report: reports/report.html\n" in out
    assert (served.checkout.root / "reports/report.html").exists()
    assert (served.checkout.root / "logs/prefect.log").read_text() == ""


def test_prefect_has_each_stage_as_a_task_of_that_name_and_the_outcome_as_an_artifact(served):
    assert served.first.code == 0
    flow = min(ask(served, "flow_runs"), key=lambda run: run["start_time"])
    tasks = ask(served, "task_runs", flow_runs={"id": {"any_": [flow["id"]]}})
    tasks.sort(key=lambda task: task["start_time"])
    assert [task["name"].rsplit("-", 1)[0] for task in tasks] == list(TASKS)
    assert {run["state_type"] for run in [flow, *tasks]} == {"COMPLETED"}
    artifacts = ask(served, "artifacts", artifacts={"key": {"any_": ["training"]}})
    first = min(artifacts, key=lambda artifact: artifact["created"])
    assert first["type"] == "markdown"
    assert first["data"] == served.first.out.strip().split("\n\n")[1]


def test_outputs_that_were_removed_are_restored_and_nothing_runs(without_outputs):
    ended, as_before, executed = without_outputs
    assert (ended.code, ended.err, executed) == (0, "", [])
    assert as_before
    restored = {**dict.fromkeys(STAGES, "restored"), "register": "unchanged"}
    assert stage_lines(ended.out) == restored
    assert "trips-model version 1 (registered before)" in ended.out


def test_a_trial_ends_with_the_evidence_and_registers_nothing(trained):
    ended = trained.trial()
    assert (ended.code, ended.out.splitlines()[-1]) == (0, "None")
    assert "register" not in ended.out


def test_without_a_server_the_flow_starts_one_and_says_so(trained, served):
    alone = trained.copy(trained.root.parent / "alone")
    ended = alone.flow()
    assert (ended.code, ended.err) == (0, "")
    how = {**dict.fromkeys(STAGES, "unchanged"), "register": "run"}
    assert stage_lines(ended.out) == how
    assert "trips-model version 1 (registered)" in ended.out
    assert "a temporary Prefect server was started for this run; `make up`" in ended.out
    assert "temporary" not in served.first.out
    logs = [alone.root / "logs" / name for name in ("prefect.log", "prefect-server.log")]
    assert [log.read_text() for log in logs] == ["", ""]


def test_dvc_alone_finds_what_the_flow_made_and_writes_the_same_lock(trained):
    lock = trained.root / "dvc.lock"
    record = lock.read_bytes()
    lock.unlink()
    ended = trained.run("dvc", "repro")
    assert ended.code == 0, ended.err
    assert (lock.read_bytes(), trained.executed()) == (record, [])
