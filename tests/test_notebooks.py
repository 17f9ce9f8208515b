"""Notebooks: as scripts, in Jupyter's kernel, in the source format of Databricks."""

from __future__ import annotations

import json
import os
import re
import runpy
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import requests

from mlops.base import processes
from mlops.contract.dataset import HOLDOUT, TRAINING
from mlops.contract.paths import FEATURES
from mlops.pipeline import tracking_server
from tests import apart
from tests.conftest import REPOSITORY

NOTEBOOKS = REPOSITORY / "notebooks"
COMMENT = {".py": "#", ".R": "#", ".sql": "--", ".scala": "//"}


@pytest.mark.parametrize("path", sorted(NOTEBOOKS.glob("*.*")), ids=lambda path: path.name)
def test_a_notebook_is_in_the_source_format_of_databricks(path):
    first, *cells = re.split(rf"\n\n?{COMMENT[path.suffix]} COMMAND -+\n", path.read_text())
    marker, body = first.split("\n", 1)
    assert marker == f"{COMMENT[path.suffix]} Databricks notebook source"
    assert len(cells) > 1
    for cell in (body, *cells):
        # The title as Databricks shows it, and as editors of cells in scripts do.
        titled, named = cell.splitlines()[:2]
        assert titled.partition("DBTITLE 1,")[2] == named.partition("%% ")[2] != ""


@pytest.fixture
def run(monkeypatch):
    """Run a notebook as a script in a folder; its names."""

    def run(name: str, root: Path) -> SimpleNamespace:
        monkeypatch.chdir(root)
        monkeypatch.setattr(sys, "path", [*sys.path])
        monkeypatch.setenv("MPLBACKEND", "Agg")
        # MLflow's address of a server is this variable too: afterwards it is unset again.
        monkeypatch.setenv(tracking_server.VARIABLE, "")
        monkeypatch.delenv(tracking_server.VARIABLE)
        return SimpleNamespace(**runpy.run_path(str(NOTEBOOKS / name)))

    return run


@pytest.fixture
def spoilt(finished, tmp_path):
    """A finished project's copy in which a part of the feature table is another."""

    def spoilt(project: str, part: str, edit: Callable[[pd.DataFrame], pd.DataFrame]) -> Path:
        root: Path = finished(project).copy(tmp_path / project).root
        path = root / FEATURES / part
        edit(pd.read_parquet(path)).to_parquet(path)
        return root

    return spoilt


@pytest.mark.nightly
@pytest.mark.parametrize("project", ["trips", "diabetes", "wine"])
def test_a_project_s_tables_and_features_are_explored(run, finished, project):
    done = run("explore.py", finished(project).root)
    assert set(done.missing["table"]) == set(done.schemas)
    assert set(done.information.index) == set(done.features.features)
    assert done.task == "regression" or done.suspects.empty


@pytest.mark.nightly
def test_a_feature_that_is_the_outcome_is_suspected(run, spoilt):
    root = spoilt("trips", TRAINING, lambda rows: rows.assign(stops=rows["late"].astype(float)))
    assert list(run("explore.py", root).suspects.index) == ["stops"]


@pytest.mark.nightly
@pytest.mark.parametrize("project", ["diabetes", "wine"])
def test_the_feature_that_moved_is_the_first_of_the_drift(run, spoilt, project):
    name = {"diabetes": "bmi", "wine": "alcohol"}[project]
    root = spoilt(project, HOLDOUT, lambda rows: rows.assign(**{name: rows[name] + 100}))
    done = run("drift.py", root)
    assert done.table.index[0] == name
    assert len(done.result) == done.months(done.later).nunique()


@pytest.mark.nightly
def test_runs_are_compared_by_the_figures_of_their_evidence(run, finished):
    root = finished("trips").root
    (row,) = run("compare_runs.py", root).table.to_dict("records")
    metrics = json.loads((root / "reports" / "metrics.json").read_text())["holdout"]
    assert row == pytest.approx({f"holdout_{name}": metrics[name]["value"] for name in metrics})


@pytest.mark.nightly
def test_before_a_training_the_runs_are_none(run, tmp_path, finished):
    shutil.copy(finished("trips").root / "params.yaml", tmp_path)
    assert run("compare_runs.py", tmp_path).table.empty


@pytest.fixture(scope="module")
def jupyter(tmp_path_factory):
    """The programs of `make notebook`."""
    folder = tmp_path_factory.mktemp("jupyter")
    apart.environment(REPOSITORY / "infra/local/notebook.lock", folder)
    site = folder / "lib/python3.11/site-packages"
    (site / "project.pth").write_text(sysconfig.get_path("purelib"))
    return folder / "bin"


@pytest.mark.nightly
def test_a_notebook_runs_in_jupyter_s_kernel(jupyter, finished, tmp_path):
    notebook = shutil.copy(NOTEBOOKS / "drift.py", tmp_path)
    words = ["--set-kernel", "python3", "--to", "ipynb", "--execute", notebook]
    done = subprocess.run(
        [jupyter / "jupytext", "--run-path", finished("diabetes").root, *words], cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY / "src")}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    cells = json.loads((tmp_path / "drift.ipynb").read_text())["cells"]
    shown = [out["output_type"] for cell in cells for out in cell["outputs"]]
    assert shown.count("display_data") == 2


@pytest.mark.nightly
def test_jupyterlab_opens_a_file_as_a_notebook_and_saves_it_as_it_was(jupyter, tmp_path):
    for path in NOTEBOOKS.glob("*.py"):
        shutil.copy(path, tmp_path)
    port = processes.free_port()
    words = ["--no-browser", "--allow-root", f"--port={port}", "--IdentityProvider.token=t"]
    env = {**os.environ, "JUPYTER_CONFIG_PATH": str(REPOSITORY / "infra/local/jupyter")}
    url, session = f"http://127.0.0.1:{port}", requests.Session()
    session.headers["Authorization"] = "token t"
    with subprocess.Popen([jupyter / "jupyter", "lab", *words], cwd=tmp_path, env=env,
                          stderr=subprocess.DEVNULL) as server:  # fmt: skip
        try:
            assert processes.wait(lambda: processes.answers(f"{url}/api"))
            manager = "@jupyterlab/docmanager-extension:plugin"
            known = session.get(f"{url}/lab/api/settings/{manager}", timeout=60).json()
            viewers = known["schema"]["properties"]["defaultViewers"]["default"]
            assert viewers == {"python": "Jupytext Notebook"}
            for path in NOTEBOOKS.glob("*.py"):
                place = f"{url}/api/contents/{path.name}"
                opened = session.get(place, {"type": "notebook", "content": 1}, timeout=60).json()
                assert len(opened["content"]["cells"]) > 1
                body = {"type": "notebook", "format": "json", "content": opened["content"]}
                session.put(place, json=body, timeout=60).raise_for_status()
                assert (tmp_path / path.name).read_text() == path.read_text()
        finally:
            server.terminate()
