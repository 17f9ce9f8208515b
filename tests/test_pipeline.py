"""`dvc.yaml` names all that shapes a stage's output, and nothing else: code, parameters, inputs."""

import json
import os
import shutil
import subprocess
import sys
from contextlib import chdir
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from dvc.repo import Repo

from mlops.base import processes
from mlops.contract.stages import FINGERPRINT, MADE_BY_DVC
from mlops.training import train
from tests.conftest import PROJECTS, REPOSITORY

ALL = yaml.safe_load((PROJECTS / "dvc.yaml").read_text())["stages"]
PIPELINE = {stage: ALL[stage] for stage in MADE_BY_DVC}
OUTPUT = {name: stage["outs"][0] for name, stage in PIPELINE.items()}
PROJECT = "trips"
IGNORED = "/data/\n/models/\n/reports/\n/mlruns/\n/logs/\n__pycache__/\n"

pytestmark = pytest.mark.slow


def deps(stage):
    return {dep.replace("${project}", PROJECT) for dep in PIPELINE[stage]["deps"]}


def leaves(content, path=""):
    """The parameters by their dotted names."""
    if not isinstance(content, dict):
        return {path: content}
    parts = [leaves(value, f"{path}.{key}" if path else key) for key, value in content.items()]
    return {name: value for part in parts for name, value in part.items()}


def files(root, folders):
    paths = [path for folder in folders for path in (root / folder).rglob("*") if path.is_file()]
    return [path.relative_to(root).as_posix() for path in paths]


def within(path, declared):
    return any(path == dep or path.startswith(f"{dep}/") for dep in declared)


def declared(stage):
    """The parameters of `params.yaml`: ingest has the source's state as a parameter too."""
    return [name for name in PIPELINE[stage]["params"] if isinstance(name, str)]


def covered(name, declared):
    """Whether one of the declared names is the parameter itself or its section."""
    return any(name == part or name.startswith(f"{part}.") for part in declared)


def other(name, value):
    """Another valid value in the place of this one."""
    if isinstance(value, list):
        return value[::-1]
    if isinstance(value, str):
        return {
            "duckdb": "spark",
            "files": "package",
            "2023-03-31": "2023-04-01",
            "refuse": "accept",
            "main": "pull-requests",
            "none": "key",
        }.get(value, f"other-{value}")
    if value is None:
        return {"monitoring.labels": "other-labels", "tune.rows": 1000}.get(name, 0.5)
    if name == "data.copy":
        return value  # The other one needs Spark.
    return value + 1 if isinstance(value, int) else value / 2


@pytest.fixture(scope="session")
def observed(shared, trained):
    """A stage's run in a fresh interpreter, without the inputs and with other values of the
    parameters that it does not declare.
    """

    def observe(stage, folder):
        workspace = trained(PROJECT).copy(folder)
        unused = {
            name: other(name, value)
            for name, value in leaves(workspace.params().model_dump(mode="json")).items()
            if not covered(name, declared(stage))
        }
        workspace.change(unused)
        for path in files(folder, OUTPUT.values()):
            if not within(path, deps(stage)):
                (folder / path).unlink()
        done = subprocess.run(
            [sys.executable, REPOSITORY / "tests" / "observe.py", stage],
            cwd=folder,
            env={"PYTHONPATH": str(folder / "src")},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        (folder / "observed.json").write_text(done.stdout)

    return lambda stage: shared.folder(f"observed-{stage}", lambda root: observe(stage, root))


@pytest.fixture(params=PIPELINE)
def stage(request):
    return request.param


@pytest.fixture
def seen(observed, stage):
    return json.loads((observed(stage) / "observed.json").read_text())


def test_a_stage_declares_the_parameters_that_it_reads_and_no_others(stage, seen):
    own = declared(stage)
    # Runs are tracked under the model's name, which shapes no output.
    assert [name for name in seen if not covered(name, [*own, "model"])] == []
    assert [one for one in own if not any(covered(name, [one]) for name in seen)] == []


def test_what_a_stage_does_not_declare_does_not_change_a_byte_of_its_output(
    stage, observed, trained
):
    from mlops.base.files import folder_digests

    made, expected = (root / OUTPUT[stage] for root in (observed(stage), trained(PROJECT).root))
    assert folder_digests(made) == folder_digests(expected)


@pytest.fixture(scope="module")
def reproduced(finished, tmp_path_factory):
    """A repository under Git and DVC in which nothing has changed since its stages ran."""
    workspace = finished(PROJECT).copy(tmp_path_factory.mktemp("reproduced") / "repository")
    root = workspace.root
    for name, source in ((PROJECT, PROJECTS), ("mlops", REPOSITORY / "src")):
        (root / "src" / name).unlink()
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(source / name, root / "src" / name, ignore=ignored)
    (root / "README.md").write_text("# Trips\n")
    (root / ".gitignore").write_text(IGNORED)
    git(root, "init", "-q")
    with chdir(root), Repo.init(".") as repo:
        repo.commit(force=True)
    git(root, "add", ".")
    git(root, "commit", "-qm", "A start")
    return workspace


def git(root, *words):
    who = ("-c", "user.name=A Tester", "-c", "user.email=a@b.cd")
    subprocess.run(["git", *who, *words], cwd=root, check=True)


def stale_stages(root):
    with chdir(root):
        return [stage for stage in Repo().status() if stage != FINGERPRINT]


NEUTRAL = (
    "README.md",
    "src/mlops/cli/command.py",
    "src/mlops/registry/register.py",
    "src/mlops/monitoring/params.py",
)


@pytest.mark.parametrize(
    ("names", "stages"),
    [
        (NEUTRAL, []),
        (["src/trips/tables.py"], ["ingest"]),
        (["src/mlops/data/sources/files.py"], ["ingest", "featurize"]),
        (["src/mlops/data/engine.py"], ["ingest", "featurize", "tune", "train"]),
        (["src/trips/models.py"], ["tune"]),
        (["src/mlops/training/onnx.py"], ["tune", "train", "evaluate"]),
        (["src/mlops/evaluation/report/report.html.j2"], ["evaluate"]),
        (["src/mlops/contract/params.py"], list(PIPELINE)),
    ],
)
def test_a_line_of_code_makes_stale_what_is_made_with_it(reproduced, names, stages):
    paths = {reproduced.root / name: (reproduced.root / name).read_text() for name in names}
    for path, text in paths.items():
        path.write_text(f"{text}\n# A comment.\n")
    try:
        assert stale_stages(reproduced.root) == stages
    finally:
        for path, text in paths.items():
            path.write_text(text)


@pytest.mark.parametrize(
    ("old", "new", "stages"),
    [
        ("draws: 20", "draws: 30", ["evaluate"]),
        ("max_evals: 4", "max_evals: 5", ["tune", "train"]),
        ("model: trips-model", "model: another", ["train"]),
        # featurize takes the day from what ingest has written.
        ("until: '2023-03-31'", "until: '2023-04-30'", ["ingest", "train"]),
        ("engine: duckdb", "engine: spark", ["featurize", "tune"]),
    ],
)
def test_a_parameter_makes_stale_what_is_made_with_it(reproduced, old, new, stages):
    path = reproduced.root / "params.yaml"
    before = path.read_text()
    edit(path, old, new)
    try:
        assert stale_stages(reproduced.root) == stages
    finally:
        path.write_text(before)


@pytest.fixture
def copied(reproduced, tmp_path):
    """A copy of that repository, with code of its own."""
    shutil.copytree(reproduced.root, tmp_path / "copy", symlinks=True)
    return replace(reproduced, root=tmp_path / "copy")


def edit(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


FEATURES_LINE = "      - src/${project}/features.py\n"
CONSTANT = "LATE_AFTER_MINUTES = 5\n"


@pytest.fixture
def four_files(copied):
    """A project with a fourth file, which `features.py` imports and `dvc.yaml` does not name."""
    package = copied.root / "src" / PROJECT
    (package / "limits.py").write_text(CONSTANT)
    edit(package / "features.py", CONSTANT, "")
    with_import = (
        "from pyspark.sql import functions as F\n\nfrom trips.limits import LATE_AFTER_MINUTES\n"
    )
    edit(package / "features.py", "from pyspark.sql import functions as F\n", with_import)
    return copied


def test_a_file_that_a_stage_loads_and_does_not_declare_is_refused_with_the_line_to_add(four_files):
    done = four_files.command("featurize")
    assert (done.code, done.out, done.err) == (
        2,
        "",
        "error: src/trips/limits.py: featurize loads it, but dvc.yaml does not name it; "
        "add the line '- src/${project}/limits.py' to stages.featurize.deps\n",
    )


def test_a_declared_file_is_a_dependency_and_a_part_of_the_code_hash(four_files):
    added = FEATURES_LINE.replace("features", "limits")
    edit(four_files.root / "dvc.yaml", FEATURES_LINE, FEATURES_LINE + added)
    assert four_files.command("featurize").code == 0
    with chdir(four_files.root), Repo() as repo:
        repo.commit(force=True)
    before = train.hashes(four_files.params(), four_files.root)["code"]
    assert stale_stages(four_files.root) == []
    edit(four_files.root / "src/trips/limits.py", "5", "6")
    assert stale_stages(four_files.root) == ["featurize", "tune", "train", "evaluate"]
    assert train.hashes(four_files.params(), four_files.root)["code"] != before


def dvc(root, *words, **environment):
    """DVC's command with this environment's programs; what it printed."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    command, env = (
        [sys.executable, "-m", "dvc", *words],
        {**os.environ, "PATH": path, **environment},
    )
    return processes.run(command, cwd=root, env=env)


EVALUATED = "        result.save(folder)\n"
MARKED = EVALUATED + '        print("THIS FOLDER")\n'


@pytest.fixture
def marked(copied):
    """A copied folder whose `evaluate` prints a line more than the original's."""
    edit(copied.root / "src/mlops/evaluation/evaluate.py", EVALUATED, MARKED)
    return copied


def test_a_copied_folder_runs_its_own_code_whatever_its_environment_names(marked, reproduced):
    """As in a folder that was copied with its `.venv`, which still names the original."""
    out = dvc(marked.root, "repro", "evaluate", PYTHONPATH=str(reproduced.root / "src"))
    assert "THIS FOLDER\n" in out


@pytest.mark.nightly
def test_a_queued_experiment_runs_the_code_that_was_queued(copied):
    """DVC runs it in a folder of its own, while the workspace has other code by then."""
    evaluate = copied.root / "src/mlops/evaluation/evaluate.py"
    edit(evaluate, EVALUATED, MARKED)
    dvc(copied.root, "exp", "run", "--queue", "--name", "queued")
    edit(evaluate, MARKED, EVALUATED)
    assert "THIS FOLDER\n" in dvc(copied.root, "exp", "run", "--run-all")
