"""The jobs of databricks.yml: rendered by Databricks' own builder, and run task by task."""

import json
import re
import shutil
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest
import yaml

from mlops.base.files import folder_digest
from mlops.contract import bundle as bundles
from mlops.contract.stages import MODULES
from tests import apart, tracking_api
from tests.conftest import PROJECTS
from tests.settings import change

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


# Runs Databricks' builder once for each line, a folder and arguments; its imports take seconds.
BUILDER = """
import json, os, runpy, sys
import pydantic, yaml
from databricks.bundles.core import Resources
Resources()
for line in sys.stdin:
    folder, *sys.argv[1:] = json.loads(line)
    if not (child := os.fork()):
        os.chdir(folder)
        runpy.run_module("databricks.bundles.build", run_name="__main__")
    os.waitpid(child, 0)
    print(flush=True)
"""


@pytest.fixture(scope="session")
def builder(tmp_path_factory):
    """The builder in an environment of its own."""
    folder = tmp_path_factory.mktemp("databricks-bundles")
    apart.environment(FOLDER / "requirements.lock", folder)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen([folder / "bin/python", "-c", BUILDER], text=True, **pipes) as process:
        yield process
        process.stdin.close()


@pytest.fixture
def bundle(builder, tmp_path):
    """A copy of the bundle with the tests' own stages and schedules."""
    return Bundle.copied(tmp_path / "bundle", builder)


class Bundle:
    """A bundle's folder; `build` runs the builder as the CLI does, without its interpolation."""

    def __init__(self, root, builder):
        self.root, self.builder = root, builder

    def edit(self, name, change):
        content = yaml.safe_load((self.root / name).read_text())
        change(content)
        (self.root / name).write_text(yaml.safe_dump(content))

    @classmethod
    def copied(cls, root, builder):
        for name in FILES:
            copy = shutil.copytree if (REPOSITORY / name).is_dir() else shutil.copy
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            copy(REPOSITORY / name, root / name)
        shutil.copy(PROJECTS / "dvc.yaml", root)
        (root / "prefect.yaml").write_text(yaml.safe_dump(DEPLOYMENTS))
        return cls(root, builder)

    def build(self, target="production", **variables):
        """The jobs, and the errors."""
        content = yaml.safe_load((self.root / "databricks.yml").read_text())
        content["bundle"]["target"] = target
        for name, variable in content["variables"].items():
            variable["value"] = variables.get(name, variable.get("default"))
        content, errors = self._phase("load_resources", content)
        return content.get("resources", {}).get("jobs", {}), errors

    def _phase(self, phase, content):
        files = {name: self.root / f"{name}.json"
                 for name in ("input", "output", "diagnostics", "locations")}  # fmt: skip
        files["input"].write_text(json.dumps(content))
        words = [word for name, file in files.items() for word in (f"--{name}", str(file))]
        print(json.dumps([str(self.root), "--phase", phase, *words]), file=self.builder.stdin,
              flush=True)  # fmt: skip
        self.builder.stdout.readline()
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


WRONG_FILES = {
    "six fields": ("prefect.yaml", lambda content: _cron(content, "0 0 2 * * *"), "five fields"),
    "days of month and week": (
        "prefect.yaml", lambda content: _cron(content, "0 2 1 * 1"), "found '0 2 1 * 1'"),
    "two schedules": (
        "prefect.yaml", lambda content: content["deployments"][0]["schedules"].append({"rrule": 1}),
        "weekly: schedules: found [['cron', 'timezone'], ['rrule']], expected one with cron"),
    "a stage without outputs": (
        "dvc.yaml", lambda content: content["stages"]["tune"].pop("outs"), "outs"),
    "no such compute": (
        "databricks.yml", lambda content: content["variables"]["compute"].update(default="pool"),
        "compute: found 'pool', expected one of single-node, cluster, serverless"),
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


@pytest.mark.nightly
@pytest.mark.slow
def test_the_tasks_make_the_laptop_s_bundle(bundle, trained, store, tmp_path, monkeypatch):
    from mlflow import MlflowClient

    files = bundle.root
    laptop = trained("trips")
    shutil.rmtree(files / "src")
    shutil.copytree(laptop.root / "src", files / "src", symlinks=False,
                    ignore=shutil.ignore_patterns("__pycache__"))  # fmt: skip
    for name in ("pyproject.toml", "README.md", "LICENSE", "requirements.lock"):
        shutil.copy(REPOSITORY / name, files)
    # What is on another machine is named by its whole path.
    shutil.copy(laptop.root / "params.yaml", files)
    change(files, {"data.location": str(laptop.root / "csv")})
    wheel = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d"]
    subprocess.run([*wheel, "infra/jobs/wheel"], cwd=files, check=True, capture_output=True)
    jobs, errors = bundle.build()
    assert not errors
    tasks = {task["task_key"]: task["spark_python_task"] for task in jobs["stages"]["tasks"]}
    api = tracking_api.application(store, tmp_path / "server", monkeypatch)
    with tracking_api.served(api) as tracking:
        values = {"${workspace.file_path}": str(files), "{{job.run_id}}": "1", "${var.secrets}": "",
                  "{{job.parameters.folder}}": str(tmp_path / "volume"),
                  "${var.tracking}": tracking}  # fmt: skip
        env = apart.own_disk(tmp_path)
        for key in order(jobs["stages"]):
            words = [tasks[key]["python_file"], *tasks[key]["parameters"]]
            for name, value in values.items():
                words = [word.replace(name, value) for word in words]
            done = subprocess.run([sys.executable, *words], cwd=tmp_path, env=env, text=True,
                                  capture_output=True, check=False)  # fmt: skip
            assert done.returncode == 0, done.stdout + done.stderr
        client = MlflowClient(tracking)
        registered = client.get_model_version_by_alias("trips-model", "challenger")
    assert registered.tags["mlops.bundle"] == bundles.digest(laptop.root / "models/bundle")
    (run,) = (tmp_path / "volume/1").iterdir()
    for archive in run.glob("*.zip"):
        shutil.unpack_archive(archive, tmp_path / "made")
    for place in ("models/bundle", "reports/metrics.json", "data/features", "models/search"):
        made, expected = tmp_path / "made" / place, laptop.root / place
        if made.is_dir():
            assert folder_digest(made) == folder_digest(expected), place
        else:
            assert made.read_bytes() == expected.read_bytes()
    assert not list((tmp_path / "tmp").glob("mlops-task-*"))
