"""The training as an Azure ML pipeline: accepted by Azure's own loader, and run step by step."""

import os
import re
import shutil
import subprocess
import sys
from copy import deepcopy
from graphlib import TopologicalSorter
from pathlib import Path

import pandas as pd
import pytest
import yaml

from infra.azureml import automl, training
from mlops.base.errors import UserError
from mlops.base.files import folder_digest
from mlops.contract import bundle as bundles
from mlops.contract.stages import MODULES
from tests import apart
from tests.conftest import PROJECTS, REPOSITORY
from tests.mlops.deploy.azure_server import sdk_python
from tests.settings import change

IMAGE, TRACKING = f"python@sha256:{'a' * 64}", "https://mlflow.example"
RAW = {"type": "uri_folder", "path": "azureml:raw:3", "mode": "ro_mount"}


@pytest.fixture
def project(tmp_path):
    """A repository's files of which the pipeline is made; its raw data are a data asset."""
    return copied(tmp_path / "project")


def copied(root):
    for name in ("infra/azureml/training.yaml", "infra/jobs/task.py"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPOSITORY / name, root / name)
    for name in ("dvc.yaml", "params.yaml"):
        shutil.copy(PROJECTS / name, root)
    change(root, {"project": "trips", "model": "trips-model"})
    edit(root / training.PIPELINE, lambda content: content["inputs"].update(raw=RAW))
    return root


def edit(path, change):
    content = yaml.safe_load(path.read_text())
    change(content)
    path.write_text(yaml.safe_dump(content))


def order(pipeline):
    """The steps as Azure ML may run them: each after those whose outputs it is bound to."""
    jobs = pipeline["jobs"]
    waits = {name: re.findall(r"jobs\.(\w+)\.", str(job["inputs"])) for name, job in jobs.items()}
    return list(TopologicalSorter(waits).static_order())


def refused(python, *paths):
    """What Azure ML's own loader says of each file, "" for nothing."""
    command = [python, "-W", "ignore", REPOSITORY / "infra/azureml/load.py", *paths]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = dict(line.split(": ", 1) for line in done.stderr.splitlines() if line[:1] == "/")
    assert done.returncode == bool(lines)
    return [lines.get(str(path), "") for path in paths]


def write(folder, files):
    (folder / "files").mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_text(yaml.safe_dump(content))
    return folder / "pipeline.yaml"


@pytest.mark.nightly
def test_this_repository_s_own_pipeline_is_accepted_with_every_stage(shared, tmp_path):
    files = training.render(REPOSITORY, IMAGE, TRACKING)
    assert order(files["pipeline.yaml"]) == list(MODULES)
    assert refused(sdk_python(shared), write(tmp_path / "own", files)) == [""]


def test_a_step_takes_what_it_reads_and_only_what_is_seen_is_taken_from_an_earlier_run(project):
    files = training.render(project, IMAGE, TRACKING)
    inputs = {name: set(files[f"{name}.yaml"]["inputs"]) - {"tracking"} for name in MODULES}
    assert inputs == {
        "ingest": {"raw"}, "featurize": {"ingest"}, "tune": {"featurize"},
        "train": {"featurize", "tune"}, "evaluate": {"featurize", "tune", "train"},
        "register": {"featurize", "tune", "train", "evaluate"},
    }  # fmt: skip
    again = [name for name in MODULES if not files[f"{name}.yaml"]["is_deterministic"]]
    assert again == ["register"]
    edit(project / training.PIPELINE, lambda content: content["inputs"].pop("raw"))
    change(project, {"data.location": "abfss://raw@account.dfs.core.windows.net/flights"})
    files = training.render(project, IMAGE, TRACKING)
    assert not files["ingest.yaml"]["is_deterministic"]


def test_an_output_with_options_is_passed_on_by_its_path(project):
    edit(project / "dvc.yaml", lambda content: content["stages"]["evaluate"].update(
        outs=[{"reports": {"cache": False}}, "a report.html"]))  # fmt: skip
    files = training.render(project, IMAGE, TRACKING)
    assert "--makes reports --makes 'a report.html' --run" in files["evaluate.yaml"]["command"]


def _job(name, change):
    return lambda files: change(files["pipeline.yaml"]["jobs"][name])


# What Azure ML's own loader refuses, and what it says of it.
MALFORMED = {
    "a misspelt mode": (
        lambda files: files["tune.yaml"]["inputs"]["featurize"].update(mode="mont"),
        "'mont' passed is not in set"),
    "a misspelt type": (
        lambda files: files["tune.yaml"]["outputs"]["made"].update(type="folder"),
        "'folder' passed is not in set"),
    "no command": (
        lambda files: files["tune.yaml"].pop("command"), "Missing data for required field"),
    "no such kind of job": (
        lambda files: files["pipeline.yaml"].update(type="pipelines"), "Unsupported job type"),
    "a step of no kind": (
        _job("tune", lambda job: job.update(type="comand")), "'comand' passed is not in set"),
    "no code": (
        lambda files: files["tune.yaml"].update(code="nowhere"), "Can't find directory or file"),
}  # fmt: skip


@pytest.mark.nightly
def test_what_is_malformed_is_refused_by_azure_s_own_loader(project, shared, tmp_path):
    sound = training.render(project, IMAGE, TRACKING)
    paths = []
    for name, (spoil, _) in MALFORMED.items():
        files = deepcopy(sound)
        spoil(files)
        paths.append(write(tmp_path / name.replace(" ", "-"), files))
    lines = refused(sdk_python(shared), *paths)
    for (name, (_, reason)), line in zip(MALFORMED.items(), lines, strict=True):
        assert reason in line, name


AUTOML = {"trips": "classification", "wine": "classification", "diabetes": "regression"}


@pytest.mark.nightly
def test_an_automl_job_on_the_bundle_s_rows_is_accepted(finished, shared, tmp_path):
    paths = []
    for name in AUTOML:
        root = finished(name).copy(tmp_path / name).root
        (root / automl.JOB.parent).mkdir(parents=True)
        shutil.copy(REPOSITORY / automl.JOB, root / automl.JOB)
        paths.append(automl.write(root) / "job.yaml")
    wrong = paths[0].with_name("wrong.yaml")
    wrong.write_text(paths[0].read_text().replace("AUC_weighted", "roc_auc"))
    assert [bool(line) for line in refused(sdk_python(shared), *paths, wrong)] == [
        False, False, False, True,
    ]  # fmt: skip
    tasks = [yaml.safe_load(path.read_text())["task"] for path in paths]
    assert tasks == list(AUTOML.values())


def test_an_automl_job_sees_the_bundle_s_columns_and_rows_alone(finished, tmp_path):
    root = finished("trips").copy(tmp_path / "trips").root
    (root / automl.JOB.parent).mkdir(parents=True)
    shutil.copy(REPOSITORY / automl.JOB, root / automl.JOB)
    made, card = automl.write(root), bundles.read_card(root / "models/bundle")
    for name, file in automl.TABLES.items():
        written = pd.read_parquet(made / name / file)
        assert list(written) == [*(column.name for column in card.inputs), card.target]
        assert len(written) == len(pd.read_parquet(root / "data/features" / file))


@pytest.mark.parametrize("name", automl.TABLES)
def test_an_automl_job_without_its_tables_is_refused(name, finished, tmp_path):
    root = finished("trips").copy(tmp_path / "trips").root
    (root / "data/features" / automl.TABLES[name]).unlink()
    (root / automl.JOB.parent).mkdir(parents=True)
    shutil.copy(REPOSITORY / automl.JOB, root / automl.JOB)
    line = f"data/features/{automl.TABLES[name]}: not found; featurize writes it"
    with pytest.raises(UserError, match=line):
        automl.write(root)
    assert not (root / automl.MADE).exists()


@pytest.mark.nightly
@pytest.mark.slow
def test_steps_make_the_laptop_s_features(tracked, tmp_path):
    """The first two: one reads mounted data, the other what a step made; all are made alike."""
    laptop, root = tracked("trips", tmp_path / "laptop"), copied(tmp_path / "project")
    laptop.run("ingest", "featurize")
    shutil.copytree(laptop.root / "src", root / "src", symlinks=False,
                    ignore=shutil.ignore_patterns("__pycache__"))  # fmt: skip
    for name in ("pyproject.toml", "README.md", "LICENSE", "requirements.lock"):
        shutil.copy(REPOSITORY / name, root)
    shutil.copy(laptop.root / "params.yaml", root)
    wheel = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", training.WHEEL]
    subprocess.run(wheel, cwd=root, check=True, capture_output=True)
    made = training.write(root, IMAGE, TRACKING)
    given = {"tracking": TRACKING, "raw": str(laptop.root / "csv")}
    program = {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    env = apart.own_disk(tmp_path) | program
    for name in order(yaml.safe_load((made / "pipeline.yaml").read_text()))[:2]:
        component = yaml.safe_load((made / f"{name}.yaml").read_text())
        given[name] = str(tmp_path / "outputs" / name)
        # Its code is a copy of its own, and only what it is given is there.
        code = Path(shutil.copytree(made / component["code"], tmp_path / "code" / name))
        command = component["command"].replace("${{outputs.made}}", given[name])
        for key in component["inputs"]:
            command = command.replace(f"${{{{inputs.{key}}}}}", given[key])
        done = subprocess.run(["bash", "-c", command], cwd=code, env=env, text=True,
                              capture_output=True, check=False)  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
    (archive,) = Path(given["featurize"]).rglob("featurize.zip")
    shutil.unpack_archive(archive, tmp_path / "made")
    assert folder_digest(tmp_path / "made/data/features") == laptop.digest("data/features")
