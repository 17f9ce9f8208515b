"""GitHub's workflow files, executed here: the very `run:` steps of a job, by bash, in a folder.

    machine = Machine(REPOSITORY, folder=clone, stand_ins={"actions/checkout": checkout, ...})
    done = workflows.run(machine, "retrain.yml", pull_request(7, "october"))
    assert done["judge"][0].result == "success"

Contexts, expressions, `if:`, outputs, matrices, composite actions and the files that steps write to
($GITHUB_OUTPUT, _ENV, _PATH, _STEP_SUMMARY) work as on GitHub's runner. An action that is not the
repository's own needs a stand-in: without one the run ends with a KeyError of its name. Nothing is
enforced of concurrency, permissions and time limits: tests/test_workflows.py reads them.
"""

from __future__ import annotations

import hashlib
import itertools
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from tests import expressions
from tests.events import Event, starts
from tests.expressions import as_text
from tests.steps import Call, CallFailed, Command, JobDone, Machine, Outcome, StepDone, run_script

FOLDER = Path(".github/workflows")
STATUS = re.compile(r"\b(success|cancelled)\s*\(")
DEFAULT_SHELL = ("bash", "-e", "{0}")
SHELLS = {"bash": ("bash", "--noprofile", "--norc", "-eo", "pipefail", "{0}")}


def read(path: Path) -> dict[str, Any]:
    """A workflow or action as it is written; `on` is a truth value to YAML, and is set right."""
    content: dict[Any, Any] = yaml.load(path.read_text(), yaml.CSafeLoader)
    return {"on" if key is True else key: value for key, value in content.items()}


def run(machine: Machine, name: str, event: Event) -> dict[str, tuple[JobDone, ...]]:
    """Run all jobs of one workflow in order, each once for every value of its matrix.

    Empty when the event does not start the workflow.
    """
    content = read(machine.tree / FOLDER / name)
    done: dict[str, tuple[JobDone, ...]] = {}
    for job, about in content["jobs"].items() if starts(content["on"], event) else ():
        needs = about.get("needs", [])
        needs = {one: _needed(done[one]) for one in ([needs] if isinstance(needs, str) else needs)}
        planned = _Job(machine, content, job, event, needs)
        values = planned.matrix() if planned.wanted() else ()
        done[job] = tuple(_run(planned, one) for one in values) or (JobDone(job, "skipped"),)
    return done


def _run(job: _Job, values: Mapping[str, str]) -> JobDone:
    """One run of a job, with its own values of the matrix, folder and environment."""
    with tempfile.TemporaryDirectory(prefix="runner-") as temp:
        return replace(job, values=values, temp=Path(temp), env={}, path=[]).run()


def _needed(done: Sequence[JobDone]) -> dict[str, Any]:
    """What `needs.JOB` is to the jobs that follow."""
    results = {job.result for job in done}
    worst = next((one for one in ("failure", "skipped") if one in results), "success")
    return {"result": worst, "outputs": dict(done[-1].outputs)}


@dataclass
class _Scope:
    """Where steps stand: in the job itself or in a composite action, which has its own inputs."""

    inputs: dict[str, Any] | None = None
    env: dict[str, str] = field(default_factory=dict)
    steps: dict[str, Any] = field(default_factory=dict)
    done: list[StepDone] = field(default_factory=list)
    result: Outcome = "success"


@dataclass
class _Job:
    """One run of one job: what its steps have said so far."""

    machine: Machine
    workflow: Mapping[str, Any]
    name: str
    event: Event
    needs: Mapping[str, Any]
    values: Mapping[str, str] = field(default_factory=dict)
    temp: Path = Path()
    env: dict[str, str] = field(default_factory=dict)
    path: list[str] = field(default_factory=list)

    @property
    def content(self) -> Mapping[str, Any]:
        content: Mapping[str, Any] = self.workflow["jobs"][self.name]
        return content

    def wanted(self) -> bool:
        """Whether the job's `if:` holds, which by default asks for the success of its needs."""
        results = {need["result"] for need in self.needs.values()}
        return self.holds(self.content.get("if"), _Scope(), results)

    def matrix(self) -> Iterator[dict[str, str]]:
        given = self.content.get("strategy", {}).get("matrix", {})
        lists = [self.fill(value, _Scope()) for value in given.values()]
        for values in itertools.product(*lists):
            yield dict(zip(given, values, strict=True))

    def run(self) -> JobDone:
        scope = _Scope()
        for level in (self.workflow, self.content):
            self.env |= self.texts(level.get("env", {}), scope)
        for step in self.content["steps"]:
            self.step(step, scope)
        outputs = self.texts(self.content.get("outputs", {}), scope)
        environment = as_text(self.fill(self.content.get("environment"), scope))
        return JobDone(self.name, scope.result, environment, outputs, tuple(scope.done))

    def step(self, step: Mapping[str, Any], scope: _Scope) -> None:
        """Run a step where its `if:` holds, and note how it ended."""
        outer = scope.env
        scope.env = outer | self.texts(step.get("env", {}), scope)
        name = step.get("name") or step.get("uses") or str(step["run"]).strip().splitlines()[0]
        done = StepDone(name, "skipped")
        if self.holds(step.get("if"), scope, {scope.result}):
            self.machine.say(f"{self.name}: {name}")
            done = (self.command if "run" in step else self.use)(step, name, scope)
        scope.env = outer
        if done.outcome == "failure" and not step.get("continue-on-error"):
            scope.result = "failure"
        scope.done.append(done)
        if "id" in step:
            scope.steps[step["id"]] = {"outcome": done.outcome, "outputs": dict(done.outputs)}

    def command(self, step: Mapping[str, Any], name: str, scope: _Scope) -> StepDone:
        files = {key: self.temp / f"_{key.lower()}" for key in ("OUTPUT", "ENV", "PATH")}
        for file in files.values():
            file.write_text("")
        env = self.environment(scope) | {f"GITHUB_{key}": str(file) for key, file in files.items()}
        script = as_text(self.fill(step["run"], scope))
        shell = SHELLS[step["shell"]] if "shell" in step else DEFAULT_SHELL
        command = Command(self.name, name, script, shell, env, self.machine.folder)
        done = run_script(command)
        self.env |= _assignments(files["ENV"])
        self.path = files["PATH"].read_text().splitlines()[::-1] + self.path
        return replace(done, outputs=_assignments(files["OUTPUT"]))

    def use(self, step: Mapping[str, Any], name: str, scope: _Scope) -> StepDone:
        """Run an action: the repository's own (`$/`), or the stand-in for another."""
        action = str(step["uses"]).split("@")[0]
        inputs = self.texts(step.get("with", {}), scope)
        if action.startswith("$/"):
            return self.composite(self.machine.tree / action[2:], name, inputs, scope.env)
        try:
            call = Call(action, inputs, self.machine.folder)
            return StepDone(name, "success", outputs=self.machine.stand_ins[action](call) or {})
        except CallFailed as failed:
            return StepDone(name, "failure", f"{failed}\n")

    def composite(
        self, place: Path, name: str, inputs: Mapping[str, str], env: dict[str, str]
    ) -> StepDone:
        """The steps of an action of the repository's own; they see its inputs, and no `vars`."""
        action = read(place / "action.yml")
        defaults = {key: as_text(one.get("default")) for key, one in action["inputs"].items()}
        scope = _Scope({**defaults, **inputs}, env)
        for step in action["runs"]["steps"]:
            self.step(step, scope)
        out = "".join(step.out for step in scope.done)
        return StepDone(name, scope.result, out, sum(step.seconds for step in scope.done))

    def environment(self, scope: _Scope) -> dict[str, str]:
        """What a step finds: the machine's environment, GitHub's, the workflow's, its own."""
        return {
            **self.machine.env,
            **self.event.environment(self.temp, self.machine.folder),
            "GITHUB_STEP_SUMMARY": str(self.temp / "summary.md"),
            **self.env,
            **scope.env,
            "PATH": ":".join([*self.path, self.machine.env["PATH"]]),
        }

    def holds(self, condition: Any, scope: _Scope, results: set[str]) -> bool:
        """Whether an `if:` holds; one that says nothing of the status asks for success too."""
        text = "success()" if condition is None else as_text(condition)
        whole = expressions.TEMPLATE.fullmatch(text.strip())
        text = whole[1] if whole else text
        text = text if STATUS.search(text) else f"success() && ({text})"
        functions = {"cancelled": lambda: False, "success": lambda: results <= {"success"}}
        return bool(expressions.evaluate(text, {**self.names(scope), **functions}))

    def fill(self, value: Any, scope: _Scope) -> Any:
        return expressions.fill(value, self.names(scope))

    def texts(self, values: Mapping[str, Any], scope: _Scope) -> dict[str, str]:
        return {name: as_text(self.fill(value, scope)) for name, value in values.items()}

    def names(self, scope: _Scope) -> dict[str, Any]:
        """The contexts, and the one function that reads files."""
        known = {
            "github": self.event.github,
            "env": {**self.env, **scope.env},
            "runner": {"os": "Linux", "arch": "X64", "temp": str(self.temp)},
            "steps": scope.steps,
            "matrix": self.values,
            "hashFiles": self.digest,
        }
        # An action knows neither: the workflow has to give them.
        own = {"vars": dict(self.machine.variables), "needs": dict(self.needs)}
        own["inputs"] = self.event.github["event"].get("inputs", {})
        return known | (own if scope.inputs is None else {"inputs": scope.inputs})

    def digest(self, *patterns: str) -> str:
        """The digest over every file that a pattern matches; empty when none does."""
        globs = [f"{one}/*" if one.endswith("**") else one for one in patterns]
        paths = {path for one in globs for path in self.machine.folder.glob(one) if path.is_file()}
        whole = b"".join(hashlib.sha256(path.read_bytes()).digest() for path in sorted(paths))
        return hashlib.sha256(whole).hexdigest() if paths else ""


def _assignments(file: Path) -> dict[str, str]:
    """What a step wrote to one of GitHub's files, a `name=value` in each line."""
    return dict(line.split("=", 1) for line in file.read_text().splitlines())


@dataclass(frozen=True)
class Artifacts:
    """Stand-ins for the actions that keep artifacts, in a folder; by name, whoever made them."""

    store: Path

    def upload(self, call: Call) -> None:
        """Keep the files under the paths' common folder, as upload-artifact does."""
        for path in map(str.strip, call.inputs["path"].splitlines()):
            place, copy = call.folder / path, self.store / call.inputs["name"] / path
            if place.is_dir():
                shutil.copytree(place, copy, dirs_exist_ok=True)
            elif place.is_file():
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(place, copy)

    def download(self, call: Call) -> None:
        """Put the artifact at the path that is asked for."""
        place = self.store / call.inputs["name"]
        if not place.is_dir():
            raise CallFailed(f"Artifact not found for name: {call.inputs['name']}")
        shutil.copytree(place, call.folder / call.inputs["path"], dirs_exist_ok=True)
