"""The jobs of databricks.yml: the stages as tasks of one, and a job for each scheduled flow.

Nothing is listed a second time: stages and what they pass on are those of `mlops.contract.stages`
and dvc.yaml, flows and their schedules those of prefect.yaml. The Databricks CLI runs this in the
environment of requirements.lock beside it, and fills in what stands in `${…}`.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

from databricks.bundles.core import Bundle, Resources, Variable
from databricks.bundles.jobs import Job

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "src"))
from infra.jobs.handover import passed_on  # noqa: E402
from mlops.base import documents  # noqa: E402
from mlops.contract import stages  # noqa: E402

TASK = "${workspace.file_path}/infra/jobs/task.py"
TRAINING = "stages"
# The flows that run here; the forge's CI compares the world with Git.
FLOWS = ("retraining", "monitoring", "scoring")
ENVIRONMENTS = {"staging", "production"}
MACHINES = {
    "spark_version": "${var.spark_version}", "node_type_id": "${var.node_type}",
    "data_security_mode": "SINGLE_USER",
    # The driver, which every stage needs, is no spot machine; workers fall back to others.
    "azure_attributes": {"availability": "SPOT_WITH_FALLBACK_AZURE", "first_on_demand": 1,
                         "spot_bid_max_price": -1},
}  # fmt: skip
WORKERS = {"autoscale": {"min_workers": "${var.min_workers}", "max_workers": "${var.max_workers}"}}
# As Databricks' own pages make a cluster without workers.
ALONE = {
    "num_workers": 0, "custom_tags": {"ResourceClass": "SingleNode"},
    "spark_conf": {"spark.databricks.cluster.profile": "singleNode", "spark.master": "local[*]"},
}  # fmt: skip
COMPUTE: dict[str, dict[str, Any]] = {
    **{name: {"job_clusters": [{"job_cluster_key": TRAINING, "new_cluster": {**MACHINES, **size}}]}
       for name, size in (("single-node", ALONE), ("cluster", WORKERS))},
    # Version 2 has Python 3.11.
    "serverless": {"environments": [{"environment_key": TRAINING,
                                     "spec": {"environment_version": "2"}}]},
}  # fmt: skip
DAYS = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")


def load_resources(bundle: Bundle) -> Resources:
    """All jobs of the bundle's target."""
    compute = bundle.resolve_variable(Variable(path="var.compute", type=str))
    if compute not in COMPUTE:
        raise ValueError(f"compute: found {compute!r}, expected one of {', '.join(COMPUTE)}")
    resources = Resources()
    resources.add_job(TRAINING, _training(compute))
    for name, deployment in deployments().items():
        environments = ENVIRONMENTS & set(deployment.get("tags", ())) or {"production"}
        if bundle.target in {*environments, "dev"}:
            resources.add_job(name.replace("-", "_"), _scheduled(deployment, compute))
    return resources


def deployments() -> dict[str, Any]:
    """The deployments of prefect.yaml that are jobs here, by name."""
    listed = documents.read(ROOT / "prefect.yaml", "deployments", anchors=True)["deployments"]
    return {one["name"]: one for one in listed if _flow(one) in FLOWS}


def _flow(deployment: dict[str, Any]) -> str:
    return str(deployment["entrypoint"]).rpartition(":")[2]


def _training(compute: str) -> Job:
    """The stages in their order; each waits for those whose outputs it reads."""
    tasks = []
    for name, (needs, makes) in passed_on(ROOT).items():
        words = ["stage", name, "--module", stages.MODULES[name],
                 "--run", "{{job.parameters.folder}}/{{job.run_id}}"]  # fmt: skip
        words += [word for stage in needs for word in ("--needs", stage)]
        words += [word for path in makes for word in ("--makes", path)]
        tasks.append(_task(name, words, compute, needs))
    return _job(TRAINING, tasks, {"folder": "${var.folder}"}, compute)


def _scheduled(deployment: dict[str, Any], compute: str) -> Job:
    """A flow on its schedule; an empty parameter stands for the flow's own default."""
    given = {key: "" if value is None else str(value)
             for key, value in deployment.get("parameters", {}).items()}  # fmt: skip
    words = ["flow", _flow(deployment), "--repository", "${bundle.git.origin_url}",
             "--commit", "${bundle.git.commit}", "--secrets", "${var.forge_secrets}"]  # fmt: skip
    words += [word for key in given for word in ("--set", f"{key}={{{{job.parameters.{key}}}}}")]
    job = _job(deployment["name"], [_task("flow", words, compute)], given, compute,
               deployment=deployment["name"])  # fmt: skip
    job.description, job.schedule = deployment.get("description"), schedule(deployment)
    return job


def schedule(deployment: dict[str, Any]) -> Any:
    """The one schedule of a deployment as Quartz has it; raises ValueError without one."""
    listed = deployment.get("schedules") or [{}]
    own = listed[0]
    if len(listed) > 1 or "cron" not in own:
        found = [list(one) for one in listed]
        raise ValueError(f"prefect.yaml: {deployment['name']}: schedules: found {found}, "
                         "expected one with cron")  # fmt: skip
    return Job.from_dict({"schedule": {
        "quartz_cron_expression": quartz(own["cron"]),
        "timezone_id": own.get("timezone", "UTC"),
    }}).schedule  # fmt: skip


def quartz(cron: str) -> str:
    """A schedule of five fields in Quartz's six; raises ValueError for what Quartz has not."""
    if len(fields := cron.split()) != 5:
        raise ValueError(f"cron: found {cron!r}, expected five fields")
    minute, hour, day, month, weekday = fields
    if weekday == "*":
        return f"0 {minute} {hour} {day} {month} ?"
    if day != "*" or "/" in weekday:
        raise ValueError(f"cron: found {cron!r}, expected days of the month or of the week alone")
    named = re.sub(r"\d", lambda number: DAYS[int(number[0]) % 7], weekday)
    return f"0 {minute} {hour} ? {month} {named}"


def _task(name: str, words: list[str], compute: str, needs: list[str] | None = None) -> Any:
    parameters = ["${workspace.file_path}", *words, "--tracking", "${var.tracking}",
                  "--secrets", "${var.secrets}"]  # fmt: skip
    place = "environment_key" if compute == "serverless" else "job_cluster_key"
    return {
        "task_key": name, place: TRAINING,
        "depends_on": [{"task_key": other} for other in needs or ()],
        "spark_python_task": {"python_file": TASK, "parameters": parameters},
    }  # fmt: skip


def _job(
    name: str, tasks: list[Any], parameters: dict[str, str], compute: str, **tags: str
) -> Job:  # fmt: skip
    return Job.from_dict({
        "name": f"${{bundle.name}}-{name}", "tasks": tasks, **COMPUTE[compute],
        "parameters": [{"name": key, "default": value} for key, value in parameters.items()],
        # As prefect.yaml's `alone`: what is due while one of its kind runs is left out.
        "max_concurrent_runs": 1, "queue": {"enabled": False},
        "permissions": [{"group_name": "${var.operators}", "level": "CAN_MANAGE_RUN"}],
        "tags": {"commit": "${bundle.git.commit}", **tags},
    })  # fmt: skip
