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

from mlops.base import processes
from mlops.base.errors import UserError
from mlops.contract import dataset, params, project
from mlops.contract.params import Params
from mlops.contract.paths import FEATURES, WRITERS
from mlops.contract.stages import MADE_BY_DVC, MODULES, PIPELINE, dependencies
from mlops.data import engine, sources
from mlops.deploy import manifest
from mlops.evaluation import own_metrics
from mlops.gitops import gate
from mlops.pipeline import tracking_server
from mlops.training import families

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
    environments = manifest.names(root)
    if not environments:
        raise UserError(f"{manifest.FOLDER}: no manifest, expected one file for each environment")
    for environment in environments:
        manifest.load(root, environment)
        yield f"{manifest.path(environment)}: valid"
    _check_names(settings)
    _check_pipeline(settings, root)
    yield f"{PIPELINE}: every stage is there, with its files"
    project.tables(settings.project)
    with engine.engine_as_pyspark(settings.engine):
        features = project.features(settings.project).features
    task = project.models(settings.project).task
    yield f"src/{settings.project}: {len(features)} features, task {task}"
    _run_tests(settings.project, root)
    yield f"{TESTS / settings.project}: passed"
    rows = _train(root)
    yield f"a training on {rows:,} rows: ended with a bundle and its evidence"


def _check_names(settings: Any) -> None:
    """Raise UserError for a source, family, metric or rule that can't be found."""
    sources.reader(settings.data.source)
    for name in settings.tune.families:
        families.family(name)
    own_metrics.load(settings.evaluate.metrics, "params.yaml: evaluate.metrics")
    for name in settings.gate.rules:
        gate.rule(name)


def _check_pipeline(settings: Params, root: Path) -> None:
    """Raise UserError for a stage that is missing, or a dependency that nothing makes."""
    made = [path.as_posix() for path in WRITERS]
    for stage in MADE_BY_DVC:
        for path in dependencies(stage, settings.project, root):
            is_output = any(path == folder or path.startswith(f"{folder}/") for folder in made)
            if not is_output and not (root / path).exists():
                raise UserError(f"{PIPELINE}: stages.{stage}.deps: {path}: not found")


def _run_tests(name: str, root: Path) -> None:
    if not list((root / TESTS / name).glob("test_*.py")):
        raise UserError(f"{TESTS / name}: no tests, expected the project's own (test_*.py)")
    command = [sys.executable, "-m", "pytest", str(TESTS / name), "-m", "not nightly"]
    if subprocess.run(command, cwd=root, check=False).returncode:
        raise UserError(f"{TESTS / name}: failed; see the lines above")


def _train(root: Path) -> int:
    """Run every stage on a few rows in a temporary folder; the rows that it trained on."""
    environment = {**os.environ, "PYTHONPATH": "src"}
    environment.pop(tracking_server.VARIABLE, None)
    with tempfile.TemporaryDirectory(prefix="mlops-check-") as name:
        folder = Path(name)
        _link(root.resolve(), folder)
        for stage in MADE_BY_DVC:
            what = f"a training on a few rows: {stage}"
            processes.run([sys.executable, "-m", MODULES[stage]], what, cwd=folder, env=environment)
            if stage == "featurize":
                rows = _thin(folder)
    return rows


def _link(root: Path, folder: Path) -> None:
    """Let the folder look like the repository before its first stage, with quick parameters."""
    made = (path.parts[0] for path in WRITERS)
    own = {params.FILE.name, tracking_server.EMBEDDED.name, ".dvc", *made}
    for entry in root.iterdir():
        if entry.name not in own:
            (folder / entry.name).symlink_to(entry)
    content = yaml.safe_load((root / params.FILE).read_text())
    for section, changes in QUICK.items():
        content[section].update(changes)
    (folder / params.FILE).write_text(yaml.safe_dump(content, sort_keys=False))


def _thin(folder: Path) -> int:
    """Keep a sample of the training rows and of the holdout, in their order."""
    for part in (dataset.HOLDOUT, dataset.TRAINING):
        path = folder / FEATURES / part
        table = dataset.read(path)
        sample = table.sample(min(ROWS, len(table)), random_state=0).sort_index()
        dataset.write(sample, path)
    return len(sample)
