"""A command runs the code of its own folder, and its pipeline is whole."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mlops.base.errors import UserError
from mlops.pipeline import dependencies
from tests.conftest import REPOSITORY


@pytest.mark.parametrize(
    "command",
    [
        ("-c", "from mlops.cli import main; main()", "down"), ("-m", "flows", "training"),
        ("-m", "mlops.evaluation.evaluate"),
    ],
    ids=["verb", "flow", "stage"],
)  # fmt: skip
def test_a_copied_folder_does_not_run_the_code_of_another(tmp_path, command):
    """As in a folder that was copied with its `.venv`, which still names the original."""
    (tmp_path / "src/mlops").mkdir(parents=True)
    (tmp_path / "src/mlops/__init__.py").touch()
    done = subprocess.run(
        [sys.executable, *command], cwd=tmp_path, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": f"{REPOSITORY}:{REPOSITORY / 'src'}"},
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (
        2, "", f"error: {REPOSITORY / 'src/mlops'}: found the code of another folder, expected "
        "src/mlops; `make setup`, or set PYTHONPATH=src, as dvc.yaml does\n",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ("stages: {ingest: {deps: [gone.txt]}}", "dvc.yaml: stages.ingest.deps: gone.txt: not "
         "found"),
        ("stages: {x: {outs: [a.txt, b: {cache: false}]}, ingest: {deps: [a.txt, b/c.txt]}}",
         "dvc.yaml: stages: featurize: missing"),
    ],
)  # fmt: skip
def test_what_is_missing_in_the_pipeline_is_named(tmp_path, monkeypatch, content, line):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dvc.yaml").write_text(content)
    with pytest.raises(UserError, match=f"^{line}$"):
        dependencies.require_present("churn", Path())
