"""`dvc.yaml` names all that shapes a stage's output, and nothing else: code, parameters, inputs."""

import json
import shutil
import subprocess
import sys
from contextlib import chdir
from pathlib import Path

import pytest
import yaml
from dvc.repo import Repo

from mlops.contract.stages import MODULES

REPOSITORY = Path(__file__).parents[1]
PIPELINE = yaml.safe_load((REPOSITORY / "dvc.yaml").read_text())["stages"]
OUTPUT = {name: stage["outs"][0] for name, stage in PIPELINE.items()}
PROJECT = "flights"

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


def covered(name, declared):
    """Whether one of the declared names is the parameter itself or its section."""
    return any(name == part or name.startswith(f"{part}.") for part in declared)


def other(name, value):
    """Another valid value in the place of this one."""
    if isinstance(value, list):
        return value[::-1]
    if isinstance(value, str):
        return {"duckdb": "spark", "files": "package", "2013-03-31": "2013-04-01"}.get(
            value, f"other-{value}"
        )
    if value is None:
        return "other-labels" if name == "monitoring.labels" else 0.5
    return value + 1 if isinstance(value, int) else value / 2


@pytest.fixture(scope="session")
def observed(shared, finished):
    """A stage's run in a fresh interpreter, without the inputs and with other values of the
    parameters that it does not declare.
    """

    def observe(stage, folder):
        workspace = finished(PROJECT).copy(folder)
        unused = {
            name: other(name, value)
            for name, value in leaves(workspace.params().model_dump(mode="json")).items()
            if not covered(name, PIPELINE[stage]["params"])
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


def test_no_shell_stands_between_a_signal_and_the_stage(stage):
    assert PIPELINE[stage]["cmd"] == f"PYTHONPATH=src exec python -m {MODULES[stage]}"


def test_a_stage_reads_only_the_parameters_that_it_declares(stage, seen):
    # Runs are tracked under the model's name, which shapes no output.
    declared = [*PIPELINE[stage]["params"], "model"]
    assert [name for name in seen["parameters"] if not covered(name, declared)] == []


def test_a_stage_declares_only_parameters_that_it_reads(stage, seen):
    unread = [d for d in PIPELINE[stage]["params"]
              if not any(covered(name, [d]) for name in seen["parameters"])]  # fmt: skip
    assert unread == []


def test_what_a_stage_does_not_declare_does_not_change_a_byte_of_its_output(
    stage, observed, finished
):
    from mlops.base.files import folder_digests

    made, expected = (root / OUTPUT[stage] for root in (observed(stage), finished(PROJECT).root))
    assert folder_digests(made) == folder_digests(expected)


def test_every_stage_depends_on_the_lock(stage):
    assert "requirements.lock" in deps(stage)


@pytest.fixture(scope="module")
def reproduced(finished, tmp_path_factory):
    """A DVC repository in which nothing has changed since its stages ran."""
    root = finished(PROJECT).copy(tmp_path_factory.mktemp("reproduced")).root
    for name in (PROJECT, "mlops"):
        (root / "src" / name).unlink()
        shutil.copytree(REPOSITORY / "src" / name, root / "src" / name)
    for name in ("dvc.yaml", "README.md", "flows", ".dvc/config"):
        copy = shutil.copytree if (REPOSITORY / name).is_dir() else shutil.copy
        (root / name).parent.mkdir(exist_ok=True)
        copy(REPOSITORY / name, root / name)
    subprocess.run(["git", "init", "-q"], cwd=root, check=True)
    with chdir(root):
        Repo().commit(force=True)
    return root


@pytest.fixture
def stale_after(reproduced):
    """The stages that DVC would run again after an edit of one file."""

    def stale(name, edit):
        path = reproduced / name
        before = path.read_text()
        path.write_text(edit(before))
        try:
            with chdir(reproduced):
                return list(Repo().status())
        finally:
            path.write_text(before)

    return stale


@pytest.mark.parametrize(
    ("name", "stages"),
    [
        ("README.md", []),
        ("flows/training.py", []),
        ("src/mlops/cli.py", []),
        ("src/mlops/pipeline/reproduction.py", []),
        ("src/mlops/registry/register.py", []),
        ("src/flights/tables.py", ["ingest"]),
        ("src/mlops/gitops/params.py", []),
        ("src/mlops/monitoring/params.py", []),
        ("src/mlops/pipeline/stage.py", []),
        ("src/mlops/data/sources/files.py", ["ingest", "featurize"]),
        ("src/mlops/data/engine.py", ["ingest", "featurize", "tune"]),
        ("src/flights/models.py", ["tune"]),
        ("src/mlops/training/onnx.py", ["tune", "train", "evaluate"]),
        ("src/mlops/evaluation/metrics.py", ["evaluate"]),
        ("src/mlops/evaluation/report/report.html.j2", ["evaluate"]),
        ("src/mlops/contract/params.py", list(PIPELINE)),
    ],
)
def test_a_line_of_code_makes_stale_what_is_made_with_it(stale_after, name, stages):
    assert stale_after(name, lambda text: f"{text}\n# A comment.\n") == stages


@pytest.mark.parametrize(
    ("old", "new", "stages"),
    [
        ("draws: 20", "draws: 30", ["evaluate"]),
        ("max_evals: 4", "max_evals: 5", ["tune", "train"]),
        ("parity: ", "parity: 0.0001 # ", ["train"]),
        ("model: flights-model", "model: another", ["train"]),
        ("until: '2013-03-31'", "until: '2013-04-30'", ["ingest", "featurize", "train"]),
        ("engine: duckdb", "engine: spark", ["featurize", "tune"]),
        ("project: flights", "project: flights # ours", []),
    ],
)
def test_a_parameter_makes_stale_what_is_made_with_it(stale_after, old, new, stages):
    assert stale_after("params.yaml", lambda text: text.replace(old, new)) == stages
