"""A source that changed makes ingest stale, for DVC alone too, before anything is removed."""

import shutil
import subprocess
import sys
from contextlib import chdir

import pytest
from filelock import FileLock

from mlops.base.errors import UserError
from mlops.contract.paths import LOG
from mlops.contract.stages import MADE_BY_DVC, MODULES
from mlops.data import fingerprint
from mlops.gitops import status
from mlops.pipeline import reproduction, workspace
from tests.conftest import FIXTURES, Done


@pytest.fixture
def wine(repository, tmp_path):
    from dvc.repo import Repo

    made = repository("wine", tmp_path / "wine")
    Repo.init(str(made.root), no_scm=True).close()
    return made


def dvc(workspace, *words):
    command = [sys.executable, "-m", "dvc", *words]
    return subprocess.run(command, cwd=workspace.root, capture_output=True, text=True, check=False)


def runs(workspace):
    return len((workspace.root / LOG).read_text().splitlines())


def test_ingest_runs_again_when_a_file_of_the_source_has_changed_and_only_then(wine):
    with chdir(wine.root):
        how = [reproduction.reproduce("ingest", wine.root).how for _ in range(2)]
        wine.edit_table("wines", lambda rows: rows.assign(hue=rows["hue"] + 1))
        how.append(reproduction.reproduce("ingest", wine.root).how)
    assert how == ["run", "unchanged", "run"]
    assert runs(wine) == 2


def test_dvc_alone_sees_a_change_of_the_source(wine):
    assert dvc(wine, "repro", "ingest").returncode == 0
    wine.edit_table("shades", lambda rows: rows.assign(depth=rows["depth"] + 1))
    assert dvc(wine, "repro", "ingest").returncode == 0
    assert runs(wine) == 2


def test_dvc_alone_removes_no_file_from_a_location_that_ingest_would_write(wine):
    mine = wine.root / "data/raw/wines.csv"
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    wine.change({"data.location": "data/raw"})
    done = dvc(wine, "repro")
    assert done.returncode != 0
    assert "error: params.yaml: data.location: found 'data/raw', expected a folder" in done.stderr
    assert mine.read_text() == "mine"


def test_a_source_that_cannot_be_read_ends_a_flow_s_stage_with_one_line_and_code_2(wine, capfd):
    wine.change({"data.location": "nowhere"})
    with chdir(wine.root), pytest.raises(reproduction.StageFailed) as failed:
        reproduction.reproduce("ingest", wine.root)
    assert failed.value.exit_code == 2
    line = "error: params.yaml: data.location: found 'nowhere', no such folder\n"
    assert capfd.readouterr().err == line


PLACES = {
    "ingest": ("data/raw/mine.csv", "data/raw/wines/mine.parquet"),
    "featurize": ("data/features/mine.parquet",),
    "tune": ("models/search/notes.md",),
    "train": ("models/bundle/mine/model.onnx",),
    "evaluate": ("reports/plots/mine.csv",),
}


@pytest.mark.parametrize(("stage", "place"), [(s, p) for s in PLACES for p in PLACES[s]])
def test_a_file_of_somebodys_in_an_output_is_refused_and_kept(wine, command, capfd, stage, place):
    mine = wine.root / place
    mine.parent.mkdir(parents=True, exist_ok=True)
    mine.write_text("mine")
    cure = ", such as raw/, and set data.location to that" if stage == "ingest" else ""
    line = (
        f"error: {place}: found a file that {stage} did not write and would remove; move it to "
        f"another folder{cure}\n"
    )
    assert command(wine, stage) == Done(2, "", line)
    # The stage that DVC runs first, and the flow before each.
    assert (fingerprint.main(), capfd.readouterr().err) == (2, line)
    with pytest.raises(UserError, match=place):
        reproduction.reproduce(stage, wine.root)
    assert mine.read_text() == "mine"


def test_dvc_alone_removes_no_file_of_somebodys(wine):
    shutil.copytree(FIXTURES / "wine/reports", wine.root / "reports")
    (wine.root / "reports/notes.md").write_text("mine")
    assert "error: reports/notes.md: found a file that evaluate" in dvc(wine, "repro").stderr
    assert (wine.root / "reports/notes.md").read_text() == "mine"


def test_what_the_pipeline_wrote_and_what_systems_leave_there_is_no_file_of_somebodys(wine):
    """Nor is what an earlier version wrote under a name of its own."""
    shutil.copytree(FIXTURES / "wine", wine.root, dirs_exist_ok=True)
    with chdir(wine.root):
        reproduction.reproduce("ingest", wine.root)
        (wine.root / "data/raw/.gitignore").touch()
        for name in (
            ".DS_Store",
            "Thumbs.db",
            ".ipynb_checkpoints/holdout.csv",
            ".result.json.part",
        ):
            (wine.root / "reports" / name).parent.mkdir(exist_ok=True)
            (wine.root / "reports" / name).touch()
        shutil.copy("data/raw/result.json", "data/raw/summary.json")
        workspace.require_own(wine.root, MADE_BY_DVC)
        (wine.root / "data/raw/summary.json").write_text("mine")
        with pytest.raises(UserError, match=r"summary\.json"):
            workspace.require_own(wine.root, MADE_BY_DVC)


@pytest.mark.parametrize("stage", MODULES)
def test_a_verb_by_hand_writes_nothing_while_another_training_runs(wine, command, capfd, stage):
    line = (
        "error: .run/training.lock: another training runs in this folder; wait for it to "
        "end, or stop it\n"
    )
    with FileLock(wine.root / workspace.LOCK):
        assert command(wine, stage) == Done(2, "", line)
        assert (fingerprint.main(), capfd.readouterr().err) == (2, line)
    assert not (wine.root / "data").exists()


def test_without_the_source_what_was_made_of_it_is_restored(wine, capfd):
    """As on a machine of a CI, which has dvc.lock and the cache, and no folder of CSV files."""
    with chdir(wine.root):
        reproduction.reproduce("ingest", wine.root)
        before = wine.digest("data/raw")
        shutil.move(wine.root / "csv", wine.root / "away")
        shutil.rmtree(wine.root / "data")
        assert reproduction.reproduce("ingest", wine.root).how == "restored"
        assert wine.digest("data/raw") == before
        line = "params.yaml: data.location: found 'csv', no such folder: its state is taken from"
        assert capfd.readouterr().err == f"{line} dvc.lock\n"
        # What has to read it is refused.
        wine.change({"data.until": "2020-01-31"})
        with pytest.raises(reproduction.StageFailed):
            reproduction.reproduce("ingest", wine.root)


def test_status_says_of_which_state_the_data_is(wine):
    with chdir(wine.root):
        nothing = status.data(wine.params(), wine.root)
        assert nothing.endswith("data/raw/result.json: not found; ingest writes it")
        wine.run("ingest")
        assert status.data(wine.params(), wine.root) == "data: csv, as ingested (2 files)"
        wine.edit_table("wines", lambda rows: rows.tail(9))
        (wine.tables() / "more.csv").touch()
        changed = "data: csv, changed since it was ingested: wines.csv"
        assert status.data(wine.params(), wine.root) == changed
        (wine.tables() / "shades.csv").unlink()
        assert status.data(wine.params(), wine.root).startswith("data: csv: no table 'shades'")
