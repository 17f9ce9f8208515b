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
from mlops.base.errors import UserError, one_line
from mlops.base.files import digest_of, read_json, sha256
from mlops.contract import dataset, params, project
from mlops.contract.params import Params
from mlops.contract.paths import FEATURES, RESULT, WRITERS
from mlops.contract.stages import MADE_BY_DVC, MODULES, PIPELINE
from mlops.data import engine, sources
from mlops.deploy import manifest
from mlops.evaluation import own_metrics
from mlops.forge import git
from mlops.gitops import gate
from mlops.gitops.rules import fairness, limits
from mlops.pipeline import tracking_server
from mlops.pipeline.dependencies import require_present
from mlops.training import search

TESTS = Path("tests")
CHECKED = Path(".run/declarations")
CI = [*(f".github/workflows/{name}.yml" for name in ("ci", "retrain", "deploy")),
      "azure-pipelines.yml"]  # fmt: skip
PARTS = (dataset.HOLDOUT, dataset.TRAINING)
ROWS = 2000
# Days of which features are compared with those as of the day.
DAYS = 6
# What a quick training changes in `params.yaml`, where the section is there.
QUICK: dict[str, dict[str, Any]] = {
    "tune": {"max_evals": 2, "first_look": 1.0},
    "evaluate": {"draws": 20, "importance_rows": 100, "importance_repeats": 1},
    "train": {"reference_rows": 100},
}


def run(root: Path) -> Iterator[str]:
    """Check everything in turn; a line for each part. Raises UserError for the first fault."""
    settings = declarations(root)
    _check_branches(root)
    yield f"{params.FILE}: valid"
    environments = manifest.names(root)
    if not environments:
        raise UserError(f"{manifest.FOLDER}: no manifest, expected one file for each environment")
    for environment in environments:
        manifest.load(root, environment)
        yield f"{manifest.path(environment)}: valid"
    require_present(settings.project, root)
    yield f"{PIPELINE}: every stage is there, with its files"
    yield _check_project(settings)
    _run_tests(settings.project, root)
    yield f"{TESTS / settings.project}: passed"
    rows, compared = _train(root, settings)
    if compared:
        yield compared
    yield f"a training on {rows:,} rows: ended with a bundle and its evidence"


def declarations(root: Path) -> Any:
    """The whole parameters, after a check of all that they and the project's files declare.

    What was found valid is not loaded again until a file of it changes: Hyperopt and Pandera take
    seconds to import. Raises UserError for the first fault.
    """
    settings = params.load_all(root)
    code = (root / "src" / settings.project).rglob("*.py")
    files = {str(path): sha256(path) for path in (root / params.FILE, *sorted(code))}
    checked, digest = root / CHECKED, digest_of(files)
    if not checked.exists() or checked.read_text() != digest:
        _check_names(settings)
        _check_project(settings)
        checked.parent.mkdir(exist_ok=True)
        checked.write_text(digest)
    return settings


def _check_branches(root: Path) -> None:
    """Raise UserError for a CI whose triggers, which know no variables, miss the main branch."""
    main = git.main_branch(root, "")
    for file in (file for file in CI if main and (root / file).exists()):
        try:
            # Every value as text: for YAML 1.1 the key `on` is a boolean.
            content = yaml.load((root / file).read_text(), yaml.BaseLoader)
        except yaml.YAMLError as error:
            raise UserError(f"{file}: {one_line(error)}") from None
        for key, names in _branches(content):
            if main not in names:
                found = f"found {', '.join(names)}, expected {main}"
                raise UserError(f"{file}: {key}: {found}, the main branch of the remote")


def _branches(content: Any, key: str = "") -> Iterator[tuple[str, list[str]]]:
    """The branches that a CI's triggers and variable `mainBranch` name, each list with its key."""
    entries = dict(enumerate(content)) if isinstance(content, list) else content
    for name, value in entries.items() if isinstance(entries, dict) else ():
        place = f"{key}.{name}".lstrip(".")
        if place.endswith((".branches", ".branches.include")) and isinstance(value, str | list):
            yield place, [value] if isinstance(value, str) else value
        elif name == "value" and content.get("name") == "mainBranch":
            yield place, [value]
        else:
            yield from _branches(value, place)


def _check_project(settings: Any) -> str:
    """A line on the project. Raises UserError for what its files declare wrongly."""
    project.tables(settings.project)
    project.forget(settings.project)
    with engine.engine_as_pyspark(settings.engine):
        features = project.features(settings.project)
    models = project.models(settings.project)
    search.require(settings, models)
    limits.limits(settings.gate, models.task)
    fairness.require(settings.gate, models.task, features.slices)
    project.forget(settings.project)
    return f"src/{settings.project}: {len(features.features)} features, task {models.task}"


def _check_names(settings: Any) -> None:
    """Raise UserError for a source, metric or rule that can't be found."""
    sources.source(settings.data.source)
    limited = [name for name in settings.gate.limits or () if "." in name]
    own_metrics.load(limited, "params.yaml: gate.limits")
    own_metrics.load(settings.evaluate.metrics, "params.yaml: evaluate.metrics")
    for name in settings.gate.rules:
        gate.rule(name)


def _run_tests(name: str, root: Path) -> None:
    if not list((root / TESTS / name).glob("test_*.py")):
        raise UserError(f"{TESTS / name}: no tests, expected the project's own (test_*.py)")
    command = [sys.executable, "-m", "pytest", str(TESTS / name), "-m", "not nightly"]
    if subprocess.run(command, cwd=root, check=False).returncode:
        raise UserError(f"{TESTS / name}: failed; see the lines above")


def _train(root: Path, settings: Params) -> tuple[int, str]:
    """Run every stage on a few rows in a temporary folder.

    Gives the rows that it trained on, and a line on the days that were compared before; "" where
    rows have none.
    """
    environment = {**os.environ, "PYTHONPATH": "src"}
    environment.pop(tracking_server.VARIABLE, None)
    compared = ""
    with tempfile.TemporaryDirectory(prefix="mlops-check-") as name:
        folder = Path(name)
        _link(root.resolve(), folder)
        for stage in MADE_BY_DVC:
            what = f"a training on a few rows: {stage}"
            processes.run([sys.executable, "-m", MODULES[stage]], what, cwd=folder, env=environment)
            if stage == "featurize":
                if read_json(folder / FEATURES / RESULT)["days"]:
                    command = [sys.executable, "-m", "mlops.data.as_of", str(DAYS)]
                    compared = processes.run(command, "features", cwd=folder, env=environment)
                rows = _thin(folder, settings)
    return rows, compared.strip()


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


def _thin(folder: Path, settings: Params) -> int:
    """Keep a sample of the training rows and of the holdout, in their order."""
    with engine.engine_as_pyspark(settings.engine):
        spec = project.features(settings.project)
    task = project.models(settings.project).task
    tables = {part: dataset.read(folder / FEATURES / part) for part in PARTS}
    classes = dataset.classes(tables[dataset.TRAINING], spec, task)
    for part, table in tables.items():
        outcome = dataset.target(table, spec, classes)
        kept = dataset.sample(outcome, ROWS, classes, settings.seed)
        table.iloc[kept].to_parquet(folder / FEATURES / part, index=False)
    return len(kept)
