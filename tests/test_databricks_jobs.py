"""The jobs of databricks.yml: rendered by Databricks' own builder, and run task by task."""

import base64
import json
import os
import re
import shutil
import subprocess
import sys
from copy import deepcopy
from graphlib import TopologicalSorter
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from zipfile import ZipFile

import pytest
import yaml

from mlops.base.files import folder_digest
from mlops.contract import bundle as bundles
from mlops.contract.stages import MODULES
from tests import apart, spark_servers, standing
from tests.conftest import PROJECTS
from tests.mlops.deploy.cloud import Answer, Cloud

REPOSITORY = Path(__file__).parents[1]
FOLDER = REPOSITORY / "infra/databricks"
# What the jobs are derived from, and the code that does it.
FILES = ("databricks.yml", "infra/databricks/jobs.py", "infra/jobs/task.py",
         "infra/jobs/handover.py", "src/mlops/__init__.py", "src/mlops/base",
         "src/mlops/contract")  # fmt: skip
DEPLOYMENTS = {
    "deployments": [
        {"name": name, "entrypoint": f"flows/{flow}.py:{flow}", "tags": tags,
         "schedules": [{"cron": cron, "timezone": "Europe/Oslo"}], "parameters": parameters}
        for name, flow, tags, cron, parameters in (
            ("weekly", "retraining", [], "30 4 * * 1", {"until": None, "because": "a test"}),
            ("watch-s", "monitoring", ["staging"], "5 * * * *", {"environment": "staging"}),
            ("watch-p", "monitoring", ["production"], "*/10 6-18 1,15 * *",
             {"environment": "production"}),
            ("score", "scoring", ["production"], "0 2 * 1-6 1-5,0", {"environment": "production"}),
            ("look", "reconcile_check", ["staging"], "0 6 * * *", {}),
        )
    ]
}  # fmt: skip
QUARTZ = {"weekly": "0 30 4 ? * MON", "watch_s": "0 5 * * * ?",
          "watch_p": "0 */10 6-18 1,15 * ?", "score": "0 0 2 ? 1-6 MON-FRI,SUN"}  # fmt: skip


@pytest.fixture(scope="session")
def builder(tmp_path_factory):
    """The Python of the builder's environment."""
    folder = tmp_path_factory.mktemp("databricks-bundles")
    apart.environment(FOLDER / "requirements.lock", folder)
    return folder / "bin/python"


@pytest.fixture
def bundle(builder, tmp_path):
    """A copy of the bundle with the tests' own stages and schedules."""
    return Bundle.copied(tmp_path / "bundle", builder)


@pytest.fixture(scope="module")
def loaded(builder, tmp_path_factory):
    """Such a copy, and what the builder makes of it before it is checked."""
    own = Bundle.copied(tmp_path_factory.mktemp("loaded") / "bundle", builder)
    return own, own.load("production")[0]


class Bundle:
    """A bundle's folder; `build` runs the builder as the CLI does, without its interpolation."""

    def __init__(self, root, python):
        self.root, self.python = root, python

    def edit(self, name, change):
        content = yaml.safe_load((self.root / name).read_text())
        change(content)
        (self.root / name).write_text(yaml.safe_dump(content))

    @classmethod
    def copied(cls, root, python):
        for name in FILES:
            copy = shutil.copytree if (REPOSITORY / name).is_dir() else shutil.copy
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            copy(REPOSITORY / name, root / name)
        shutil.copy(PROJECTS / "dvc.yaml", root)
        (root / "prefect.yaml").write_text(yaml.safe_dump(DEPLOYMENTS))
        return cls(root, python)

    def build(self, target="production", **variables):
        """The jobs, and the errors."""
        content, errors = self.load(target, **variables)
        return self.check(content) if not errors else ({}, errors)

    def load(self, target, **variables):
        """databricks.yml with the jobs, and the errors."""
        content = yaml.safe_load((self.root / "databricks.yml").read_text())
        content["bundle"]["target"] = target
        for name, variable in content["variables"].items():
            variable["value"] = variables.get(name, variable.get("default"))
        return self._phase("load_resources", content)

    def check(self, content):
        content, errors = self._phase("apply_mutators", content)
        return content.get("resources", {}).get("jobs", {}), errors

    def _phase(self, phase, content):
        files = {name: self.root / f"{name}.json"
                 for name in ("input", "output", "diagnostics", "locations")}  # fmt: skip
        files["input"].write_text(json.dumps(content))
        words = [word for name, file in files.items() for word in (f"--{name}", file)]
        command = [self.python, "-m", "databricks.bundles.build", "--phase", phase, *words]
        subprocess.run(command, cwd=self.root, capture_output=True, check=False)
        said = map(json.loads, files["diagnostics"].read_text().splitlines())
        errors = [" ".join([one["summary"], one.get("detail", "")]) for one in said]
        return json.loads(files["output"].read_text() or "{}"), "\n".join(errors)


def order(job):
    """The keys of a job's tasks, as Databricks may run them."""
    waits = {task["task_key"]: [other["task_key"] for other in task.get("depends_on", ())]
             for task in job["tasks"]}  # fmt: skip
    return list(TopologicalSorter(waits).static_order())


@pytest.mark.nightly
@pytest.mark.parametrize(
    ("target", "compute"),
    [("dev", "single-node"), ("staging", "cluster"), ("production", "serverless")],
)
def test_this_repository_s_own_bundle_is_accepted(builder, tmp_path, target, compute):
    root = tmp_path / "bundle"
    names = [*FILES, "dvc.yaml", "prefect.yaml"]
    root.mkdir()
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).symlink_to(REPOSITORY / name)
    jobs, errors = Bundle(root, builder).build(target, compute=compute)
    assert not errors
    assert order(jobs["stages"]) == list(MODULES)


@pytest.mark.nightly
def test_schedules_and_parameters_are_those_of_prefect_yaml(bundle):
    rendered = {target: bundle.build(target)[0] for target in ("dev", "staging", "production")}
    names = {target: sorted(set(jobs) - {"stages"}) for target, jobs in rendered.items()}
    assert names == {"dev": ["score", "watch_p", "watch_s", "weekly"], "staging": ["watch_s"],
                     "production": ["score", "watch_p", "weekly"]}  # fmt: skip
    for name, expression in QUARTZ.items():
        expected = {"quartz_cron_expression": expression, "timezone_id": "Europe/Oslo"}
        assert rendered["dev"][name]["schedule"] == expected
    parameters = rendered["dev"]["weekly"]["parameters"]
    assert {one["name"]: one["default"] for one in parameters} == {"until": "", "because": "a test"}
    assert "schedule" not in rendered["dev"]["stages"]


@pytest.mark.nightly
def test_every_variable_is_declared_and_used(bundle):
    declared = yaml.safe_load((bundle.root / "databricks.yml").read_text())
    jobs = [bundle.build(compute=compute)[0] for compute in ("cluster", "serverless")]
    used = set(re.findall(r"\$\{var\.(\w+)\}", json.dumps([*jobs, declared["targets"]])))
    assert used | {"compute"} == set(declared["variables"])
    for target in declared["targets"].values():
        assert set(target.get("variables", ())) <= set(declared["variables"])


def _task(change, key="tune"):
    def apply(jobs):
        (task,) = (task for task in jobs["stages"]["tasks"] if task["task_key"] == key)
        change(task)

    return apply


def _cluster(change):
    return lambda jobs: change(jobs["stages"]["job_clusters"][0]["new_cluster"])


WRONG = {
    "a task that waits for none": (
        _task(lambda task: task["depends_on"].append({"task_key": "tuning"})),
        "tasks.tune.depends_on: found 'tuning', expected one of"),
    "a circle": (
        _task(lambda task: task["depends_on"].append({"task_key": "train"})),
        "depends_on: found the circle"),
    "an output that it does not wait for": (
        _task(lambda task: task.update(depends_on=[])),
        "tasks.tune.depends_on: --needs: found 'featurize'"),
    "an unknown cluster": (
        _task(lambda task: task.update(job_cluster_key="large")),
        "tasks.tune.job_cluster_key: found 'large', expected one of stages"),
    "an unknown environment": (
        _task(lambda task: task.update(environment_key="large")),
        "tasks.tune.environment_key: found 'large'"),
    "two tasks of one name": (
        _task(lambda task: task.update(task_key="train")), "tasks: found a key twice"),
    "an unknown parameter of the job": (
        lambda jobs: jobs["stages"]["parameters"][0].update(name="volume"),
        "job.parameters: found 'folder', expected one of volume"),
    "another schedule": (
        lambda jobs: jobs["score"]["schedule"].update(quartz_cron_expression="0 0 3 ? * *"),
        "expected prefect.yaml's"),
    "no schedule": (lambda jobs: jobs["score"].pop("schedule"), "schedule: found None"),
    "a deployment that there is not": (
        lambda jobs: jobs["score"]["tags"].update(deployment="scores"),
        "tags.deployment: found 'scores'"),
    "a misspelt key of a task": (
        _task(lambda task: task.update(depend_on=[])), "depend_on"),
    "a misspelt key of the cluster": (
        _cluster(lambda cluster: cluster.update(node_type="Standard_D4ds_v5")), "node_type"),
    "an unknown spot policy": (
        _cluster(lambda cluster: cluster["azure_attributes"].update(availability="SPOT")),
        "SPOT"),
    "an unknown permission": (
        lambda jobs: jobs["stages"]["permissions"][0].update(level="CAN_RUN"), "CAN_RUN"),
}  # fmt: skip


@pytest.mark.nightly
@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_job_is_refused(wrong, loaded):
    """What databricks.yml, or a target in it, may do to the jobs."""
    own, content = loaded[0], deepcopy(loaded[1])
    change, line = WRONG[wrong]
    change(content["resources"]["jobs"])
    assert line in own.check(content)[1]


WRONG_FILES = {
    "six fields": ("prefect.yaml", lambda content: _cron(content, "0 0 2 * * *"), "five fields"),
    "days of month and week": (
        "prefect.yaml", lambda content: _cron(content, "0 2 1 * 1"), "found '0 2 1 * 1'"),
    "two schedules": (
        "prefect.yaml", lambda content: content["deployments"][0]["schedules"].append({"rrule": 1}),
        "weekly: schedules: found [['cron', 'timezone'], ['rrule']], expected one with cron"),
    "a stage without outputs": (
        "dvc.yaml", lambda content: content["stages"]["tune"].pop("outs"), "outs"),
    "stages in a circle": (
        "dvc.yaml", lambda content: content["stages"]["tune"]["deps"].append("reports/x.json"),
        "depends_on: found the circle"),
    "no such compute": (
        "databricks.yml", lambda content: content["variables"]["compute"].update(default="pool"),
        "compute: found 'pool', expected one of single-node, cluster, serverless"),
    "a misspelt function": (
        "databricks.yml",
        lambda content: content["python"].update(resources=["infra.databricks.jobs:load"]),
        "'load' not found"),
}  # fmt: skip


def _cron(content, cron):
    content["deployments"][0]["schedules"][0]["cron"] = cron


@pytest.mark.nightly
@pytest.mark.parametrize("wrong", WRONG_FILES)
def test_a_wrong_file_is_refused(wrong, bundle):
    name, change, line = WRONG_FILES[wrong]
    bundle.edit(name, change)
    _, errors = bundle.build()
    assert line in errors


@pytest.fixture
def spark(tmp_path):
    """A cluster of two workers, and the URL of its Spark Connect server."""
    with (
        spark_servers.cluster(tmp_path / "cluster") as cluster,
        spark_servers.connect(tmp_path / "connect", master=cluster.url) as url,
    ):
        yield cluster, url


@pytest.fixture
def tracking(tmp_path):
    """The URL of an MLflow server."""
    standing.start(tmp_path / "server", *standing.MLFLOW)
    yield standing.answering(tmp_path / "server", "mlflow")
    standing.stop(tmp_path / "server")


def own_disk(shared, tmp_path):
    """The variables of a machine whose disk is empty but for the lock's environment."""

    def make(folder):
        folder.mkdir()
        made = "from task import *; environment(Path(sys.argv[1]))"
        command = [sys.executable, "-c", made, REPOSITORY / "requirements.lock"]
        subprocess.run(command, cwd=REPOSITORY / "infra/jobs", check=True,
                       env={**os.environ, "TMPDIR": str(folder)})  # fmt: skip

    (tmp_path / "tmp").mkdir()
    for place in shared.folder("lock-environment", make).iterdir():
        if place.is_dir():
            (tmp_path / "tmp" / place.name).symlink_to(place)
    return {**os.environ, "TMPDIR": str(tmp_path / "tmp"), "PYTHONPATH": "/nowhere"}


@pytest.mark.nightly
@pytest.mark.slow
def test_the_tasks_make_the_laptop_s_bundle(bundle, trained, tracking, spark, shared, tmp_path):
    """On Spark's two workers, where the laptop had DuckDB."""
    from mlflow import MlflowClient

    files = bundle.root
    laptop = trained("trips")
    shutil.rmtree(files / "src")
    shutil.copytree(laptop.root / "src", files / "src", symlinks=False,
                    ignore=shutil.ignore_patterns("__pycache__"))  # fmt: skip
    for name in ("pyproject.toml", "README.md", "LICENSE", "requirements.lock"):
        shutil.copy(REPOSITORY / name, files)
    shutil.copy(laptop.root / "params.yaml", files)
    # What is on another machine is named by its whole path.
    bundle.edit("params.yaml", lambda c: c["data"].update(location=str(laptop.root / "csv")))
    bundle.edit("params.yaml", lambda c: c.update(engine="spark"))
    cluster, remote = spark
    wheel = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d"]
    subprocess.run([*wheel, "infra/jobs/wheel"], cwd=files, check=True, capture_output=True)

    volume = tmp_path / "volume"
    values = {"${workspace.file_path}": str(files), "{{job.parameters.folder}}": str(volume),
              "{{job.run_id}}": "1", "${var.secrets}": "",
              "${var.tracking}": tracking}  # fmt: skip
    jobs, errors = bundle.build()
    assert not errors
    tasks = {task["task_key"]: task["spark_python_task"] for task in jobs["stages"]["tasks"]}
    said, env = "", own_disk(shared, tmp_path) | {"SPARK_REMOTE": remote}
    for key in order(jobs["stages"]):
        words = [tasks[key]["python_file"], *tasks[key]["parameters"]]
        for name, value in values.items():
            words = [word.replace(name, value) for word in words]
        done = subprocess.run([sys.executable, *words], cwd=tmp_path, env=env, text=True,
                              capture_output=True, check=False)  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        said += done.stdout
    assert len(cluster.executors()) == 2
    # An installer may say more.
    assert re.findall(rf"^({'|'.join(MODULES)}) ", said, re.MULTILINE) == list(MODULES)
    (run,) = (volume / "1").iterdir()
    for archive in run.glob("*.zip"):
        shutil.unpack_archive(archive, tmp_path / "made")
    for place in ("models/bundle", "reports/metrics.json", "data/features", "models/search"):
        made, expected = tmp_path / "made" / place, laptop.root / place
        if made.is_dir():
            assert folder_digest(made) == folder_digest(expected), place
        else:
            assert made.read_bytes() == expected.read_bytes()
    assert not list((tmp_path / "tmp").glob("mlops-task-*"))
    digest = bundles.digest(laptop.root / "models/bundle")
    registered = MlflowClient(tracking).get_model_version_by_alias("trips-model", "challenger")
    assert registered.tags["mlops.bundle"] == digest


@pytest.fixture
def task(monkeypatch):
    """The module of infra/jobs/task.py; the environment that it would make is this one."""
    spec = spec_from_file_location("task", REPOSITORY / "infra/jobs/task.py")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
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


WRITES = """
import os, sys
from pathlib import Path
print(*(f"{path}: {path.read_text()}" for path in sorted(Path("made").glob("*"))))
print({name: os.environ[name] for name in os.environ if name.startswith(("MLFLOW_T", "A_"))})
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


def test_secrets_and_the_tracking_server_reach_the_stage(task, files, monkeypatch, capfd):
    with Secrets() as workspace:
        monkeypatch.setenv("DATABRICKS_HOST", workspace.url)
        monkeypatch.setenv("DATABRICKS_TOKEN", "its-own")
        task.main([*_stage(files, "first"), "--secrets", "mine", "--secrets", ""])
    said = capfd.readouterr().out
    assert "'A_LOGIN': 'of A_LOGIN'" in said
    assert "'MLFLOW_TRACKING_URI': 'http://there'" in said


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
