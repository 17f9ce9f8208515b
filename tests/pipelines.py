"""Azure's pipeline file, executed here: the very `script:` steps, by bash, in a folder.

    done = pipelines.run(Machine(REPOSITORY, folder=clone), pipelines.pull_request(7))
    assert done["Judge"][0].result == "success"

Templates, `${{ if }}`, conditions, `$(macros)` and the commands that steps print (`setvariable`,
`prependpath`) work as on Azure's agent. Tasks, `checkout` and `publish` do nothing without a
stand-in. Stages run one after the other, as they are written.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests import expressions
from tests.expressions import Functions, as_text, truthy
from tests.steps import Call, Command, JobDone, Machine, Outcome, StepDone, called, finished

FILE = Path("azure-pipelines.yml")
CASE = re.compile(r"\$\{\{ if (.*) \}\}")
MACRO = re.compile(r"\$\(([\w.]+)\)")
SAID = re.compile(r"##vso\[task\.(\w+)(?: variable=([\w.]+))?((?:;\w+=\w+)*)\](.*)")
# Unlike GitHub's, a script that goes on after a command failed is not stopped.
SHELL = ("bash", "--noprofile", "--norc", "{0}")
TOKEN = "the-run's-own"
SECRETS = {"System.AccessToken": TOKEN}
KINDS = ("task", "checkout", "publish")


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


def load(tree: Path, parameters: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The file as Azure has it after it filled in templates and parameters."""
    content: dict[str, Any] = yaml.load((tree / FILE).read_text(), yaml.CSafeLoader)
    variables = {one["name"]: one["value"] for one in content["variables"]}
    known = {"parameters": _given(content, parameters or {}), "variables": variables}
    expanded: dict[str, Any] = _expand(content, known, tree)
    return expanded


def _given(content: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Each parameter's value; Azure reads every scalar as a text and then by its type."""
    values = {}
    for about in content["parameters"]:
        value = given.get(about["name"], about["default"])
        values[about["name"]] = (
            str(value).lower() == "true" if about["type"] == "boolean" else value
        )
    return values


def _expand(node: Any, known: Mapping[str, Any], tree: Path) -> Any:
    if isinstance(node, dict):
        return {key: _expand(value, known, tree) for key, value in node.items()}
    if isinstance(node, list):
        return [one for item in node for one in _items(item, known, tree)]
    return expressions.fill(node, known, AZURE) if isinstance(node, str) else node


def _items(item: Any, known: Mapping[str, Any], tree: Path) -> list[Any]:
    """What stands in a list for one item: a case's items, a template's steps, or itself."""
    key = str(next(iter(item))) if isinstance(item, dict) and item else ""
    case = CASE.fullmatch(key)
    if case:
        holds = truthy(expressions.evaluate(case[1], known, AZURE))
        return list(_expand(item[key], known, tree)) if holds else []
    if key == "template":
        content = yaml.load((tree / item[key]).read_text(), yaml.CSafeLoader)
        inner = {**known, "parameters": _given(content, item.get("parameters", {}))}
        return list(_expand(content["steps"], inner, tree))
    return [_expand(item, known, tree)]


def run(
    machine: Machine, event: Mapping[str, str], parameters: Mapping[str, Any] | None = None
) -> dict[str, tuple[JobDone, ...]]:
    """Run every stage whose condition holds; the jobs of each, by the stage's name.

    Empty when the event starts no run.
    """
    content = load(machine.tree, parameters)
    variables = {**{one["name"]: one["value"] for one in content["variables"]}, **event}
    variables |= machine.variables
    done: dict[str, tuple[JobDone, ...]] = {}
    for stage in content["stages"] if _starts(content, event) else ():
        before = {name: _ended(jobs) for name, jobs in done.items()}
        contexts = {"variables": variables, "dependencies": before}
        results = [before[name]["result"] for name in stage["dependsOn"]]
        if _holds(stage["condition"], contexts, all(one == "Succeeded" for one in results)):
            jobs = tuple(_job(machine, job, variables) for job in stage["jobs"])
        else:
            jobs = tuple(JobDone(_names(job)[0], "skipped") for job in stage["jobs"])
        done[stage["stage"]] = jobs
    return done


def _starts(content: Mapping[str, Any], event: Mapping[str, str]) -> bool:
    """Whether there is a run at all: who asks for one, and main's branch policy, always get it."""
    if event["Build.Reason"] in ("Manual", "PullRequest"):
        return True
    of = content["trigger"] if event["Build.Reason"] == "IndividualCI" else content["schedules"][0]
    return event["Build.SourceBranch"].removeprefix("refs/heads/") in of["branches"]["include"]


def _ended(jobs: tuple[JobDone, ...]) -> dict[str, Any]:
    """What `dependencies.STAGE` is to later stages."""
    known: dict[Outcome, str] = {"failure": "Failed", "skipped": "Skipped", "success": "Succeeded"}
    results = {known[job.result] for job in jobs}
    outputs = {f"{job.name}.{name}": value for job in jobs for name, value in job.outputs.items()}
    worst = next(one for one in ("Failed", "Skipped", "Succeeded") if one in results)
    return {"result": worst, "outputs": outputs}


def _holds(condition: str, contexts: Mapping[str, Any], well: bool) -> bool:
    """A condition of Azure's asks for no success unless it says so."""
    states = {"succeeded": well, "failed": not well, "canceled": False}
    states |= {"always": True, "succeededOrFailed": True}
    functions = {name: (lambda value=value: value) for name, value in states.items()}
    return truthy(expressions.evaluate(condition, contexts, {**AZURE, **functions}))


def _names(job: Mapping[str, Any]) -> tuple[str, str]:
    """A job's own name, and the name of the environment that it deploys to."""
    return (job["job"], "") if "job" in job else (job["deployment"], job["environment"])


def steps(job: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The steps of a job or of a deployment."""
    inner = job if "steps" in job else job["strategy"]["runOnce"]["deploy"]
    found: list[dict[str, Any]] = inner["steps"]
    return found


def _job(machine: Machine, job: Mapping[str, Any], variables: Mapping[str, str]) -> JobDone:
    name, environment = _names(job)
    with machine.place() as temp:
        here = {**variables, "Agent.TempDirectory": str(temp), "TF_BUILD": "True"}
        state = _Job(machine, name, here)
        done = tuple(state.step(step) for step in steps(job))
    result: Outcome = "success" if state.well else "failure"
    return JobDone(name, result, environment, state.outputs, done)


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
        kind = next((one for one in KINDS if one in step), "script")
        title = str(step.get("displayName") or step[kind]).strip().splitlines()[0]
        condition = step.get("condition", "succeeded()")
        if not _holds(condition, {"variables": self.variables}, self.well):
            return StepDone(title, "skipped")
        self.machine.say(f"{self.name}: {title}")
        done = self.script(step, title) if kind == "script" else self.task(step, kind, title)
        self.well &= done.outcome == "success"
        return done

    def script(self, step: Mapping[str, Any], title: str) -> StepDone:
        script = self.macros(step["script"])
        env = self.environment(step)
        command = Command(self.name, title, script, SHELL, env, self.machine.folder)
        done = finished(command, self.machine.watch)
        for order, variable, options, value in SAID.findall(done.out):
            self.obey(order, variable, options, value, step.get("name", ""))
        return done

    def obey(self, order: str, variable: str, options: str, value: str, step: str) -> None:
        """Do what a step asked for by printing it."""
        if order == "prependpath":
            self.path.insert(0, value)
        if order == "setvariable":
            output = ";isoutput=true" in options.lower()
            self.variables[f"{step}.{variable}" if output else variable] = value
            self.outputs |= {f"{step}.{variable}": value} if output else {}

    def task(self, step: Mapping[str, Any], kind: str, title: str) -> StepDone:
        name = str(step[kind]).split("@")[0] if kind == "task" else kind
        inputs = dict(step.get("inputs", {})) or {key: as_text(step[key]) for key in step}
        inputs = {key: self.macros(as_text(value)) for key, value in inputs.items()}
        stand_in = self.machine.stand_ins.get(name, lambda call: None)
        call = Call(name, inputs, self.environment(step), self.machine.folder)
        return called(title, stand_in, call)

    def macros(self, text: str) -> str:
        """Each `$(name)` of a known variable replaced; any other is left to the shell."""
        known = {name.lower(): value for name, value in {**self.variables, **SECRETS}.items()}
        return MACRO.sub(lambda found: known.get(found[1].lower(), found[0]), text)

    def environment(self, step: Mapping[str, Any]) -> dict[str, str]:
        """The machine's environment, every variable that is no secret, and what the step names."""
        path = ":".join([*self.path, self.machine.env.get("PATH", "")])
        said = dict(self.exported())
        own = {name: self.macros(value) for name, value in step.get("env", {}).items()}
        return {**self.machine.env, **said, **own, "PATH": path}

    def exported(self) -> Iterator[tuple[str, str]]:
        for name, value in self.variables.items():
            yield re.sub(r"\W", "_", name).upper(), value


def _equal(left: Any, right: Any) -> bool:
    """Azure turns the right side into the left one's type; variables are always texts."""
    if isinstance(left, bool):
        return left == truthy(right)
    return as_text(left).lower() == as_text(right).lower()


AZURE: Functions = {
    "and": lambda *values: all(map(truthy, values)),
    "or": lambda *values: any(map(truthy, values)),
    "not": lambda value: not truthy(value),
    "eq": _equal,
    "ne": lambda left, right: not _equal(left, right),
    "in": lambda one, *others: any(_equal(one, other) for other in others),
}
