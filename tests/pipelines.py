"""Azure's pipeline file, executed here: the very `script:` steps, by bash, in a folder.

    done = pipelines.run(Machine(REPOSITORY, folder=clone), pipelines.pull_request(7))
    assert done["Judge"][0].result == "success"

Templates, `${{ if }}`, conditions, `$(macros)` and the commands that steps print (`setvariable`,
`prependpath`) work as on Azure's agent. Tasks, `checkout` and `publish` only call their stand-ins.
Stages run one after the other, as they are written.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests import expressions
from tests.steps import Call, Command, JobDone, Machine, Outcome, StepDone, run_script

FILE = Path("azure-pipelines.yml")
CASE = re.compile(r"\$\{\{ if (.*) \}\}")
MACRO = re.compile(r"\$\(([\w.]+)\)")
SAID = re.compile(r"##vso\[task\.(\w+)(?: variable=([\w.]+))?((?:;\w+=\w+)*)\](.*)")
# Unlike GitHub's, a script that goes on after a command failed is not stopped.
SHELL = ("bash", "--noprofile", "--norc", "{0}")
TOKEN = "the-run's-own"
SECRETS = {"System.AccessToken": TOKEN}
RESULTS: dict[Outcome, str] = {"failure": "Failed", "skipped": "Skipped", "success": "Succeeded"}


def pull_request(number: int, fork: bool = False) -> dict[str, str]:
    """The variables of a run for a pull request."""
    return {
        "Build.Reason": "PullRequest",
        "Build.SourceBranch": f"refs/pull/{number}/merge",
        "System.PullRequest.PullRequestId": str(number),
        "System.PullRequest.IsFork": str(fork),
    }


def branch(reason: str, name: str = "main") -> dict[str, str]:
    """The variables of a run on a branch: `IndividualCI`, `Schedule` or `Manual`."""
    return {"Build.Reason": reason, "Build.SourceBranch": f"refs/heads/{name}"}


def load(
    tree: Path,
    parameters: Mapping[str, Any] | None = None,
    settings: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """The file as Azure has it after it filled in templates and parameters.

    `settings` are the variables of the pipeline's settings; what the file declares hides them.
    """
    content: dict[str, Any] = yaml.load((tree / FILE).read_text(), yaml.CSafeLoader)
    variables = _Settings(settings or {})
    variables.update({one["name"]: one["value"] for one in content["variables"]})
    known = {"parameters": _given(content, parameters or {}), "variables": variables}
    expanded: dict[str, Any] = _expand(content, known, tree)
    return expanded


class _Settings(dict[str, str]):
    """Variables; one that nobody has set is empty."""

    def __missing__(self, name: str) -> str:
        return ""


def _given(content: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, bool | str]:
    """Each parameter's value; what is boolean is written as text."""
    values = {one["name"]: given.get(one["name"], one["default"]) for one in content["parameters"]}
    return {
        one["name"]: str(values[one["name"]]).lower() == "true"
        if one["type"] == "boolean"
        else str(values[one["name"]])
        for one in content["parameters"]
    }


def _expand(node: Any, known: Mapping[str, Any], tree: Path) -> Any:
    if isinstance(node, dict):
        return {key: _expand(value, known, tree) for key, value in node.items()}
    if isinstance(node, list):
        return [one for item in node for one in _items(item, known, tree)]
    return expressions.fill(node, known)


def _items(item: Any, known: Mapping[str, Any], tree: Path) -> list[Any]:
    """What stands in a list for one item: a case's items, a template's steps, or itself."""
    key = str(next(iter(item))) if isinstance(item, dict) and item else ""
    if case := CASE.fullmatch(key):
        return list(_expand(item[key], known, tree)) if expressions.evaluate(case[1], known) else []
    if key == "template":
        # A path is relative to the file that names it.
        path = tree / item[key]
        content = yaml.load(path.read_text(), yaml.CSafeLoader)
        given = _expand(item.get("parameters", {}), known, tree)
        inner = {**known, "parameters": _given(content, given)}
        return list(_expand(content["steps"], inner, path.parent))
    return [_expand(item, known, tree)]


def run(
    machine: Machine, event: Mapping[str, str], parameters: Mapping[str, Any] | None = None
) -> dict[str, tuple[JobDone, ...]]:
    """Run every stage whose condition holds; the jobs of each, by the stage's name.

    Empty when the event starts no run.
    """
    content = load(machine.tree, parameters, machine.variables)
    variables = {one["name"]: one["value"] for one in content["variables"]}
    variables |= {**event, **machine.variables}
    done: dict[str, tuple[JobDone, ...]] = {}
    for stage in content["stages"] if _starts(content, event) else ():
        before = {name: _ended(jobs) for name, jobs in done.items()}
        names = {"variables": variables, "dependencies": before}
        well = all(before[name]["result"] == "Succeeded" for name in stage["dependsOn"])
        holds = _holds(stage["condition"], names, well)
        done[stage["stage"]] = tuple(_job(machine, one, variables, holds) for one in stage["jobs"])
    return done


def _starts(content: Mapping[str, Any], event: Mapping[str, str]) -> bool:
    """Whether there is a run at all: who asks for one, and main's branch policy, always get it."""
    if event["Build.Reason"] in ("Manual", "PullRequest"):
        return True
    of = content["trigger"] if event["Build.Reason"] == "IndividualCI" else content["schedules"][0]
    return event["Build.SourceBranch"].removeprefix("refs/heads/") in of["branches"]["include"]


def _ended(jobs: tuple[JobDone, ...]) -> dict[str, Any]:
    """What `dependencies.STAGE` is to later stages."""
    results = {job.result for job in jobs}
    outputs = {f"{job.name}.{name}": value for job in jobs for name, value in job.outputs.items()}
    return {"result": next(RESULTS[one] for one in RESULTS if one in results), "outputs": outputs}


def _holds(condition: str, names: Mapping[str, Any], well: bool) -> bool:
    """A condition of Azure's asks for no success unless it says so."""
    functions = {
        "succeeded": lambda: well,
        "succeededOrFailed": lambda: True,
        "canceled": lambda: False,
    }
    return bool(expressions.evaluate(condition, {**names, **functions}))


def steps(job: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The steps of a job or of a deployment."""
    inner = job if "steps" in job else job["strategy"]["runOnce"]["deploy"]
    found: list[dict[str, Any]] = inner["steps"]
    return found


def _job(
    machine: Machine, job: Mapping[str, Any], variables: Mapping[str, str], holds: bool
) -> JobDone:
    name = job.get("job") or job["deployment"]
    if not holds:
        return JobDone(name, "skipped")
    with tempfile.TemporaryDirectory(prefix="agent-") as temp:
        state = _Job(
            machine,
            name,
            {
                **variables,
                "Agent.TempDirectory": temp,
                "TF_BUILD": "True",
                "Pipeline.Workspace": temp,
            },
        )
        done = tuple(state.step(step) for step in steps(job))
    result: Outcome = "success" if state.well else "failure"
    return JobDone(name, result, job.get("environment", ""), state.outputs, done)


@dataclass
class _Job:
    """One run of one job: what its steps have said so far."""

    machine: Machine
    name: str
    variables: dict[str, str]
    outputs: dict[str, str] = field(default_factory=dict)
    path: list[str] = field(default_factory=list)
    well: bool = True

    def step(self, step: Mapping[str, Any]) -> StepDone:
        """Run a step where its condition holds; only a script does anything."""
        title = str(step.get("displayName") or next(iter(step.values()))).strip().splitlines()[0]
        condition = step.get("condition", "succeeded()")
        if not _holds(condition, {"variables": self.variables}, self.well):
            return StepDone(title, "skipped")
        if "script" not in step:
            self.use(step)
            return StepDone(title, "success")
        script = self.macros(step["script"])
        env = self.environment(step)
        done = run_script(Command(self.name, title, script, SHELL, env, self.machine.folder))
        for order, variable, options, value in SAID.findall(done.out):
            self.obey(order, variable, options, value, step.get("name", ""))
        self.well &= done.outcome == "success"
        return done

    def use(self, step: Mapping[str, Any]) -> None:
        """Let the stand-in of a task note what it is given; `checkout` and `publish` too."""
        name = str(step.get("task", next(iter(step)))).split("@")[0]
        inputs = step.get("inputs", step)
        texts = {key: self.macros(str(value)) for key, value in inputs.items()}
        self.machine.stand_ins.get(name, lambda call: None)(Call(name, texts, self.machine.folder))

    def obey(self, order: str, variable: str, options: str, value: str, step: str) -> None:
        """Do what a step asked for by printing it."""
        if order == "prependpath":
            self.path.insert(0, value)
        if order == "setvariable" and ";isoutput=true" in options.lower():
            self.outputs[f"{step}.{variable}"] = self.variables[f"{step}.{variable}"] = value
        elif order == "setvariable":
            self.variables[variable] = value

    def macros(self, text: str) -> str:
        """Each `$(name)` of a known variable replaced; any other is left to the shell."""
        known = {name.lower(): value for name, value in {**self.variables, **SECRETS}.items()}
        return MACRO.sub(lambda found: known.get(found[1].lower(), found[0]), text)

    def environment(self, step: Mapping[str, Any]) -> dict[str, str]:
        """The machine's environment, every variable that is no secret, and what the step names."""
        path = ":".join([*self.path, self.machine.env.get("PATH", "")])
        exported = {re.sub(r"\W", "_", key).upper(): one for key, one in self.variables.items()}
        own = {name: self.macros(str(value)) for name, value in step.get("env", {}).items()}
        return {**self.machine.env, **exported, **own, "PATH": path}
