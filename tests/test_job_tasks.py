"""One task of a job: what it runs, what it takes from others, and what it refuses."""

import base64
import re
import shutil
import subprocess
import sys
import tempfile
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from zipfile import ZipFile

import pytest

from tests.conftest import REPOSITORY
from tests.mlops.deploy.cloud import Answer, Cloud


@pytest.fixture
def module():
    """infra/jobs/task.py."""
    spec = spec_from_file_location("task", REPOSITORY / "infra/jobs/task.py")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def task(module, monkeypatch):
    """The same; the environment that it would make is this one."""
    monkeypatch.setattr(module, "environment", lambda lock: Path(sys.executable))
    return module


@pytest.fixture
def files(tmp_path):
    """What a deployment copies: a wheel of one module, the settings and the lock."""
    folder = tmp_path / "files"
    (folder / "infra/jobs/wheel").mkdir(parents=True)
    with ZipFile(folder / "infra/jobs/wheel/one-1-py3-none-any.whl", "w") as wheel:
        wheel.writestr("one.py", WRITES)
    for name in ("params.yaml", "dvc.yaml", "requirements.lock"):
        (folder / name).write_text(name)
    return folder


@pytest.mark.nightly
@pytest.mark.slow
def test_an_environment_is_made_once_and_has_what_its_lock_names(module, tmp_path, monkeypatch):
    text = (REPOSITORY / "requirements.lock").read_text()
    pins = re.findall(r"^(?:uv|packaging)==(?:.*\\\n)*.*\n", text, re.MULTILINE)
    (tmp_path / "requirements.lock").write_text("".join(pins))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    python = module.environment(tmp_path / "requirements.lock")
    names = "from importlib.metadata import distributions as d; print(*{one.name for one in d()})"
    found = subprocess.run([python, "-I", "-c", names], check=True, text=True, capture_output=True)
    # What made it stays.
    assert set(found.stdout.split()) - {"pip", "setuptools"} == {"packaging", "uv"}
    monkeypatch.setattr(module, "_run", None)
    assert module.environment(tmp_path / "requirements.lock") == python


WRITES = """
import os, sys
from pathlib import Path
print(*(f"{path}: {path.read_text()}" for path in sorted(Path().glob("[mr]a*/*"))))
given = ("MLFLOW_T", "A_", "SPARK")
print({name: value for name, value in os.environ.items() if name.startswith(given)})
print(*(f"found {path}" for path in Path().glob("*.txt")))
Path("one.txt").touch()
Path("made").mkdir(exist_ok=True)
Path("made", str(len(list(Path("made").iterdir())))).write_text("whole")
sys.exit(int(os.environ.get("A_CODE", 0)))
"""


def _stage(files, name, *needs):
    words = [word for stage in needs for word in ("--needs", stage)]
    return [str(files), "stage", name, "--module", "one", "--run", str(files.parent / "run"),
            "--makes", "made", *words, "--tracking", "http://there"]  # fmt: skip


def test_a_task_finds_what_an_earlier_one_made(task, files, capfd):
    task.main(_stage(files, "first"))
    task.main(_stage(files, "second", "first"))
    assert "made/0: whole" in capfd.readouterr().out
    assert not (files / "made").exists()


def test_a_file_that_a_task_makes_is_kept(task, files, capfd):
    task.main([*_stage(files, "first"), "--makes", "one.txt"])
    task.main(_stage(files, "second", "first"))
    assert "found one.txt" in capfd.readouterr().out


def _half(run):
    archive = run / "first.zip"
    archive.write_bytes(archive.read_bytes()[:-10])


BROKEN = {
    "half copied": (lambda files, run: _half(run), "found SHA-256 .*; run the task first again"),
    "never ended": (
        lambda files, run: (run / "first.sha256").unlink(),
        "first.sha256: not found; the task first writes it"),
    "of other parameters": (
        lambda files, run: (files / "params.yaml").write_text("changed"),
        "first.sha256: not found"),
    "of other libraries": (
        lambda files, run: (files / "requirements.lock").write_text("changed"),
        "first.sha256: not found"),
    "no wheel": (
        lambda files, run: shutil.rmtree(files / "infra"), "found 0 wheels, expected 1"),
}  # fmt: skip


@pytest.mark.parametrize("broken", BROKEN)
def test_a_task_refuses_what_is_not_the_earlier_one_s(broken, task, files):
    task.main(_stage(files, "first"))
    (run,) = (files.parent / "run").iterdir()
    change, line = BROKEN[broken]
    change(files, run)
    with pytest.raises(task.Failed, match=line):
        task.main(_stage(files, "second", "first"))
    assert not list(run.parent.rglob("second*"))


def test_a_failed_task_keeps_nothing(task, files, monkeypatch):
    monkeypatch.setenv("A_CODE", "2")
    with pytest.raises(task.Failed, match="first: exit code 2"):
        task.main(_stage(files, "first"))
    assert not (files.parent / "run").exists()


@pytest.mark.parametrize("uri", ["", "sqlite:///mlflow.db", "mlruns"])
def test_a_tracking_store_that_ends_with_the_task_is_refused(uri, task, files):
    with pytest.raises(task.Failed, match="tracking: .*, expected the URL of an MLflow server"):
        task.main([*_stage(files, "first"), "--tracking", uri])


class Secrets(Cloud):
    """A workspace with one scope of secrets, as Databricks' documentation of the API has it."""

    routes = ((r"GET /api/2\.0/secrets/list", "list"), (r"GET /api/2\.0/secrets/get", "get"))

    def list(self, call):
        assert call.query["scope"] == "mine"
        return Answer(200, {"secrets": [{"key": "A_LOGIN", "last_updated_timestamp": 1}]})

    def get(self, call):
        value = base64.b64encode(f"of {call.query['key']}".encode()).decode()
        return Answer(200, {"key": call.query["key"], "value": value})


def test_secrets_the_tracking_server_and_spark_reach_the_stage(task, files, monkeypatch, capfd):
    with Secrets() as workspace:
        monkeypatch.setenv("DATABRICKS_HOST", workspace.url)
        monkeypatch.setenv("DATABRICKS_TOKEN", "its-own")
        monkeypatch.setenv("SPARK_HOME", "/databricks/spark")
        monkeypatch.setenv("SPARK_REMOTE", "sc://there")
        task.main([*_stage(files, "first"), "--secrets", "mine", "--secrets", ""])
    said = capfd.readouterr().out
    assert "'A_LOGIN': 'of A_LOGIN'" in said
    assert "'MLFLOW_TRACKING_URI': 'http://there'" in said
    assert "'SPARK_REMOTE': 'sc://there'" in said
    assert "SPARK_HOME" not in said


FLOW = "import sys, mlops; print(sys.argv[1:], mlops.__file__)"


def test_a_flow_runs_in_a_clone_of_its_commit(task, files, tmp_path, capfd):
    origin = tmp_path / "origin"
    (origin / "flows").mkdir(parents=True)
    (origin / "flows/__main__.py").write_text(FLOW)
    shutil.copytree(REPOSITORY / "src/mlops/base", origin / "src/mlops/base")
    shutil.copy(REPOSITORY / "src/mlops/__init__.py", origin / "src/mlops")
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b"]
    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "one"]):
        subprocess.run([*git, *words], cwd=origin, check=True)
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=origin, check=True, text=True,
                          capture_output=True).stdout.strip()  # fmt: skip
    (wheel,) = files.glob("infra/jobs/wheel/*.whl")
    with ZipFile(wheel, "w") as packages:
        for path in (REPOSITORY / "src/mlops").rglob("*.py"):
            packages.write(path, path.relative_to(REPOSITORY / "src"))
    words = ["flow", "monitoring", "--repository", str(origin), "--set", "environment=staging",
             "--set", "until=", "--tracking", "http://there"]  # fmt: skip
    task.main([str(files), *words, "--commit", head])
    said = capfd.readouterr().out
    assert "['monitoring', 'environment=staging']" in said
    assert "clone/src/mlops/__init__.py" in said
    with pytest.raises(task.Failed, match="clone: exit code"):
        task.main([str(files), *words, "--commit", "0" * 40])


def test_a_step_of_azure_ml_takes_folders_of_its_own_and_no_login_of_the_workspace(
    task, files, tmp_path, monkeypatch, capfd
):
    monkeypatch.setenv("AZUREML_RUN_ID", "1")
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "of-azure")
    task.main(_stage(files, "first"))
    (files.parent / "run").rename(tmp_path / "mounted")
    (tmp_path / "asset").mkdir()
    (tmp_path / "asset/rows.csv").write_text("1")
    needs = f"first={tmp_path / 'mounted'}"
    task.main([*_stage(files, "second", needs), "--data", f"raw={tmp_path / 'asset'}"])
    said = capfd.readouterr().out
    assert "made/0: whole" in said
    assert "raw/rows.csv" in said
    assert "of-azure" not in said
