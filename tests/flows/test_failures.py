"""A flow that fails or is stopped says so in a line, leaves the earlier outputs, and resumes."""

import os
import shutil
import signal
from contextlib import chdir

import psutil
import pytest
from dvc.repo import Repo

from tests import standing

pytestmark = [pytest.mark.slow, pytest.mark.nightly]

# No server listens there, and none ever will.
NOWHERE = "http://127.0.0.1:9"


@pytest.fixture(scope="module")
def prefect(tmp_path_factory):
    """The address of a Prefect server's API."""
    folder = tmp_path_factory.mktemp("prefect") / "server"
    standing.start(folder, *standing.PREFECT)
    yield f"{standing.answering(folder, 'prefect')}/api"
    standing.stop(folder)


@pytest.fixture(scope="module")
def base(checkout, finished, prefect, tmp_path_factory):
    """A repository whose flow has ended well; what it has trained was made before."""
    made = checkout(tmp_path_factory.mktemp("base") / "repository")
    for folder in ("data", "models", "reports"):
        shutil.copytree(finished("trips").root / folder, made.root / folder)
    with chdir(made.root), Repo(".") as repo:
        repo.commit(force=True, allow_missing=True)
    ended = made.flow(PREFECT_API_URL=prefect)
    assert ended.code == 0, ended.err
    assert made.executed() == []
    return made


@pytest.fixture
def trained(base, prefect, tmp_path):
    """A copy to write in, with a tracking store of its own."""
    return base.copy(tmp_path / "repository", PREFECT_API_URL=prefect)


@pytest.fixture
def stale(trained):
    """A repository in which ingest has to run again, to the same end."""
    return trained.touch_code("trips/tables.py")


def processes_in(root):
    """What still runs in a folder."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.cwd().startswith(str(root)):
                found.append(" ".join(process.cmdline()))
        except psutil.Error:
            continue
    return found


def test_a_stage_that_refuses_its_input_ends_the_flow_with_its_own_line_and_code(trained):
    before = trained.outputs()
    trained.workspace.edit_table("trips", lambda rows: rows.drop(columns="hour"))
    ended = trained.workspace.change({"data.until": "2023-03-30"}) and trained.flow()
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.splitlines()[0] == "error: trips: 1 check failed; nothing was written"
    assert [line for line in ended.err.splitlines() if "Traceback" in line] == []
    assert trained.outputs() == before
    assert trained.executed() == ["ingest"]


def test_a_pipeline_that_says_nonsense_ends_the_flow_with_a_line(trained):
    before = trained.outputs()
    text = (trained.root / "dvc.yaml").read_text()
    (trained.root / "dvc.yaml").write_text(text.replace("cmd:", "command:"))
    ended = trained.flow()
    line = "error: ingest: './dvc.yaml' validation failed: 12 errors\n"
    assert (ended.code, ended.out, ended.err) == (2, "", line)
    assert trained.outputs() == before


def test_a_prefect_server_that_is_named_and_not_there_is_said_in_a_line(trained):
    ended = trained.flow(PREFECT_API_URL=f"{NOWHERE}/api")
    assert (ended.code, ended.out) == (2, "")
    assert ended.err == f"error: PREFECT_API_URL: Failed to reach API at {NOWHERE}/api/\n"


def test_a_stage_that_is_killed_ends_the_flow_with_a_line_and_the_next_flow_goes_on_from_there(
    trained, held
):
    trained.workspace.change({"train.reference_rows": 90})
    before = trained.outputs()
    with held(trained, "train") as flow:
        flow.stage.kill()
        ended = flow.end()
    assert (ended.code, ended.err) == (
        137,
        "error: train: stopped by SIGKILL, its earlier output is back in place; "
        "was there memory enough?\n",
    )
    assert trained.outputs() == before
    assert trained.executed() == []
    ended = trained.flow()
    assert (ended.code, ended.err) == (0, "")
    assert trained.executed() == ["train", "evaluate"]
    assert trained.leftovers() == []


@pytest.mark.parametrize("send", ["SIGTERM to the flow", "SIGINT to both"])
def test_a_flow_that_is_stopped_ends_its_stage_and_puts_back_its_output(stale, held, send):
    before = stale.outputs()
    with held(stale, "ingest") as flow:
        if send == "SIGINT to both":  # As a terminal does on Ctrl-C.
            os.killpg(flow.flow.pid, signal.SIGINT)
        else:
            flow.flow.terminate()
        ended = flow.end()
        assert flow.stage_is_gone(seconds=0)
    assert (ended.code, ended.err) == (130, "interrupted; earlier outputs are untouched\n")
    assert stale.outputs() == before
    assert processes_in(stale.root) == []


def test_a_flow_that_is_killed_takes_its_stage_along_and_the_next_one_ends_well(stale, held):
    before = stale.outputs()
    with held(stale, "ingest") as flow:
        flow.flow.kill()
        flow.end()
        assert flow.stage_is_gone()
    assert stale.flow().code == 0
    assert stale.executed() == ["ingest"]
    assert stale.outputs() == before


def test_what_a_colleague_made_comes_from_the_remote_and_nothing_runs(base, trained, tmp_path):
    """Without the lock, as after a merge that changed it, DVC finds the runs by what went in."""
    pusher, store = base.copy(tmp_path / "pusher"), tmp_path / "store"
    assert pusher.run("dvc", "remote", "add", "--default", "store", store).code == 0
    assert pusher.run("dvc", "push", "--run-cache").code == 0
    before = trained.outputs()
    for folder in ("data", "models", "reports", ".dvc/cache"):
        shutil.rmtree(trained.root / folder)
    (trained.root / "dvc.lock").unlink()
    trained.run("dvc", "remote", "add", "--default", "store", store)
    ended = trained.flow()
    assert (ended.code, ended.err) == (0, "")
    assert [line.split()[1] for line in ended.out.splitlines()[:5]] == ["restored"] * 5
    assert trained.executed() == []
    assert trained.outputs() == before
