"""`mlops check`: whether this project is whole, in the minutes that its own lane may take.

Its files are valid, its declarations load, its own tests pass, and its training runs to the end
on a few of its rows, in a folder of its own.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from mlops import deploy
from mlops.base.errors import UserError
from mlops.contract import dataset, params, project
from mlops.contract.params import Params
from mlops.contract.paths import FEATURES, WRITERS
from mlops.contract.stages import MADE_BY_DVC, MODULES, PIPELINE, dependencies
from mlops.data import engine
from mlops.deploy import manifest
from mlops.pipeline import tracking

TESTS = Path("tests")
ROWS = 2000
# What a quick training changes in `params.yaml`, where the section is there.
QUICK: dict[str, dict[str, Any]] = {
    "tune": {"max_evals": 2, "first_look": 1.0},
    "evaluate": {"draws": 20, "importance_rows": 100, "importance_repeats": 1},
    "train": {"reference_rows": 100},
}


def run(root: Path) -> Iterator[str]:
    """Check everything in turn; a line for each part. Raises UserError for the first fault."""
    settings = params.load_all(root)
    yield f"{params.FILE}: valid"
    for environment in _environments(root):
        yield f"{manifest.path(environment)}: valid"
    _check_pipeline(settings, root)
    yield f"{PIPELINE}: every stage is there, with its files"
    features, models = _declarations(settings)
    yield f"src/{settings.project}: {len(features.features)} features, task {models.task}"
    _run_tests(settings.project, root)
    yield f"{TESTS / settings.project}: passed"
    rows = _train(root)
    yield f"a training on {rows:,} rows: ended with a bundle and its evidence"


def _environments(root: Path) -> list[str]:
    names = manifest.names(root)
    if not names:
        raise UserError(f"{manifest.FOLDER}: no manifest, expected one file for each environment")
    for name in names:
        deploy.named(manifest.load(root, name).target)
    return names


def _check_pipeline(settings: Params, root: Path) -> None:
    """Raise UserError for a stage that is missing, or a dependency that nothing makes."""
    made = [path.as_posix() for path in WRITERS]
    for stage in MADE_BY_DVC:
        for path in dependencies(stage, settings.project, root):
            is_output = any(path == folder or path.startswith(f"{folder}/") for folder in made)
            if not is_output and not (root / path).exists():
                raise UserError(f"{PIPELINE}: stages.{stage}.deps: {path}: not found")


def _declarations(settings: Params) -> tuple[project.Features, project.Models]:
    project.tables(settings.project)
    with engine.engine_as_pyspark(settings.engine):
        features = project.features(settings.project)
    return features, project.models(settings.project)


def _run_tests(name: str, root: Path) -> None:
    if not list((root / TESTS / name).glob("test_*.py")):
        raise UserError(f"{TESTS / name}: no tests, expected the project's own (test_*.py)")
    command = [sys.executable, "-m", "pytest", str(TESTS / name), "-m", "not nightly"]
    if subprocess.run(command, cwd=root, check=False).returncode:
        raise UserError(f"{TESTS / name}: failed; see the lines above")


def _train(root: Path) -> int:
    """Run every stage on a few rows in a temporary folder; the rows that it trained on."""
    with tempfile.TemporaryDirectory(prefix="mlops-check-") as name:
        folder = Path(name)
        _link(root.resolve(), folder)
        for stage in MADE_BY_DVC:
            _run_stage(stage, folder)
            if stage == "featurize":
                rows = _thin(folder)
    return rows


def _link(root: Path, folder: Path) -> None:
    """Let the folder look like the repository before its first stage, with quick parameters."""
    own = {params.FILE.name, tracking.EMBEDDED.name, ".dvc", *(path.parts[0] for path in WRITERS)}
    for entry in root.iterdir():
        if entry.name not in own:
            (folder / entry.name).symlink_to(entry)
    content = yaml.safe_load((root / params.FILE).read_text())
    for section, changes in QUICK.items():
        content[section].update(changes)
    (folder / params.FILE).write_text(yaml.safe_dump(content, sort_keys=False))


def _run_stage(stage: str, folder: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != tracking.VARIABLE}
    command = [sys.executable, "-m", MODULES[stage]]
    done = subprocess.run(
        command, cwd=folder, env={**environment, "PYTHONPATH": "src"}, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["no reason given"]
        raise UserError(f"a training on a few rows: {stage}: {lines[-1].removeprefix('error: ')}")


def _thin(folder: Path) -> int:
    """Keep a sample of the training rows and of the holdout, in their order."""
    kept = 0
    for part in (dataset.TRAINING, dataset.HOLDOUT):
        path = folder / FEATURES / part
        table = dataset.read(path)
        sample = table.sample(min(ROWS, len(table)), random_state=0).sort_index()
        dataset.write(sample, path)
        kept = kept or len(sample)
    return kept
