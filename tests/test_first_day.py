"""A new user's first day: three files, the lines that the README names, one command, the gate."""

import shutil
import subprocess
from importlib import import_module
from pathlib import Path

import pytest

from mlops.contract import bundle
from tests.conftest import PROJECTS
from tests.repository_copy import copied, rewrite, run

pytestmark = [pytest.mark.slow, pytest.mark.nightly, pytest.mark.timeout(900)]
# What `params.yaml` needs beside the names and the folder: rows with days say how many to hold out.
DAYS = {"until": '"2020-05-27"', "holdout_days": "30", "validation_days": "10"}
NAMES = {
    "tumours": ("benign", "malignant"),
    "diabetes": (),
}


def begun(name: str, root: Path) -> Path:
    """A copy of this repository, made a project's as the README tells."""
    copied(root)
    for folder in ("src/flights", "tests/flights"):
        shutil.rmtree(root / folder)
    shutil.copytree(PROJECTS / name, root / "src" / name)
    # The task alone, whatever the project's own tests search.
    models = (PROJECTS / name / "models.py").read_text().splitlines()
    task = next(line for line in models if line.startswith("TASK"))
    (root / "src" / name / "models.py").write_text(f'"""The task."""\n\n{task}\n')
    (root / "raw").mkdir()
    tables = import_module(f"tests.projects.{name}.tables").csv()
    for table, rows in tables.items():
        rows.to_csv(root / "raw" / f"{table}.csv", index=False)
    lines = {"project": name, "model": name, "source": "files", "location": "raw"}
    for key, value in (lines | (DAYS if name == "diabetes" else {})).items():
        rewrite(root / "params.yaml", rf"^( *{key}:) \S+", rf"\1 {value}")
    for words in (
        ("init", "-q"), ("add", "--all"),
        ("-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "a project"),
    ):  # fmt: skip
        subprocess.run(["git", *words], cwd=root, check=True)
    return root


@pytest.mark.parametrize("name", NAMES)
def test_three_files_end_registered_and_accepted_by_the_gate(name: str, tmp_path: Path) -> None:
    root = begun(name, tmp_path / "a project")
    out = run(root, "make", "--old-file=setup", "train")
    assert f"{name}, version 1" in out
    assert run(root, "mlops", "gate").startswith("accepted: ")
    assert bundle.read_card(root / "models/bundle").labels == NAMES[name]
    status = subprocess.run(
        ["git", "status", "--short"], cwd=root, capture_output=True, text=True, check=True
    )
    assert status.stdout in ("", " M dvc.lock\n")
