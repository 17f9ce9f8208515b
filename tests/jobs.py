"""One job of a GitHub workflow, run step by step as GitHub's runner would."""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests import expressions
from tests.events import Event
from tests.expressions import as_text
from tests.steps import Call, CallFailed, Command, JobDone, Machine, Outcome, StepDone, finished

# `$/` is the repository of the workflow, `./` the folder: the same here.
HERE = re.compile(r"[$.]/")
STATUS = re.compile(r"\b(success|failure|cancelled|always)\s*\(")
DEFAULT_SHELL = ("bash", "-e", "{0}")
SHELLS = {"bash": ("bash", "--noprofile", "--norc", "-eo", "pipefail", "{0}")}


def read(path: Path) -> dict[str, Any]:
    """A workflow or action as it is written; `on` is a truth value to YAML, and is set right."""
    content: dict[Any, Any] = yaml.load(path.read_text(), yaml.CSafeLoader)
    return {"on" if key is True else key: value for key, value in content.items()}


@dataclass
class Scope:
    """Where steps stand: in the job itself or in a composite action, which has its own inputs."""

    steps: dict[str, Any] = field(default_factory=dict)
    env: dict[str, str] = field(default_factory=dict)
    inputs: dict[str, Any] | None = None
    done: list[StepDone] = field(default_factory=list)
    failed: bool = False

    @property
    def result(self) -> Outcome:
        return "failure" if self.failed else "success"


@dataclass
class Job:
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
        results = [need["result"] for need in self.needs.values()]
        well = all(result == "success" for result in results)
        return self.holds(self.content.get("if"), Scope(), well, "failure" in results)

    def matrix(self) -> Iterator[dict[str, str]]:
        lists = self.filled(self.content.get("strategy", {}).get("matrix", {}), Scope())
        for values in itertools.product(*lists.values()):
            yield dict(zip(lists, values, strict=True))

    def run(self) -> JobDone:
        scope = Scope()
        for level in (self.workflow, self.content):
            self.env |= self.texts(level.get("env", {}), scope)
        for step in self.content["steps"]:
            self.step(step, scope)
        outputs = self.texts(self.content.get("outputs", {}), scope)
        environment = as_text(self.fill(self.content.get("environment"), scope))
        return JobDone(self.name, scope.result, environment, outputs, tuple(scope.done))

    def step(self, step: Mapping[str, Any], scope: Scope) -> None:
        """Run a step where its `if:` holds, and note how it ended."""
        outer = scope.env
        scope.env = outer | self.texts(step.get("env", {}), scope)
        name = step.get("name") or step.get("uses") or str(step["run"]).strip().splitlines()[0]
        if self.holds(step.get("if"), scope, not scope.failed, scope.failed):
            self.machine.say(f"{self.name}: {name}")
            done = (self.command if "run" in step else self.use)(step, name, scope)
        else:
            done = StepDone(name, "skipped")
        scope.env = outer
        scope.failed |= done.outcome == "failure" and not step.get("continue-on-error")
        scope.done.append(done)
        if "id" in step:
            scope.steps[step["id"]] = {"outcome": done.outcome, "outputs": dict(done.outputs)}

    def command(self, step: Mapping[str, Any], name: str, scope: Scope) -> StepDone:
        files = {key: self.temp / f"_{key.lower()}" for key in ("OUTPUT", "ENV", "PATH")}
        for file in files.values():
            file.write_text("")
        env = self.environment(scope) | {f"GITHUB_{key}": str(file) for key, file in files.items()}
        script = as_text(self.fill(step["run"], scope))
        shell = SHELLS[step["shell"]] if "shell" in step else DEFAULT_SHELL
        command = Command(self.name, name, script, shell, env, self.machine.folder)
        done = finished(command, self.machine.watch)
        self.env |= _assignments(files["ENV"])
        self.path = files["PATH"].read_text().splitlines()[::-1] + self.path
        return StepDone(name, done.outcome, done.out, done.seconds, _assignments(files["OUTPUT"]))

    def use(self, step: Mapping[str, Any], name: str, scope: Scope) -> StepDone:
        """Run an action: the repository's own, or the stand-in for another."""
        action = str(step["uses"]).split("@")[0]
        inputs = self.texts(step.get("with", {}), scope)
        if HERE.match(action):
            return self.composite(self.machine.tree / action[2:], name, inputs, scope)
        call = Call(action, inputs, self.machine.folder)
        try:
            outputs = self.machine.stand_ins[action](call)
        except CallFailed as failed:
            return StepDone(name, "failure", f"{failed}\n")
        return StepDone(name, "success", outputs=dict(outputs or {}))

    def composite(self, place: Path, name: str, given: Mapping[str, str], outer: Scope) -> StepDone:
        """The steps of an action of the repository's own; they see its inputs, and no `vars`."""
        action = read(place / "action.yml")
        defaults = {
            key: as_text(about.get("default")) for key, about in action.get("inputs", {}).items()
        }
        scope = Scope(env=dict(outer.env), inputs={**defaults, **given})
        for step in action["runs"]["steps"]:
            self.step(step, scope)
        out = "".join(step.out for step in scope.done)
        return StepDone(name, scope.result, out, sum(step.seconds for step in scope.done))

    def environment(self, scope: Scope) -> dict[str, str]:
        """What a step finds: the machine's environment, GitHub's, the workflow's, its own."""
        return {
            **self.machine.env,
            **self.event.environment(self.temp, self.machine.folder),
            "GITHUB_JOB": self.name,
            "GITHUB_STEP_SUMMARY": str(self.temp / "summary.md"),
            **self.env,
            **scope.env,
            "PATH": ":".join([*self.path, self.machine.env.get("PATH", "")]),
        }

    def holds(self, condition: Any, scope: Scope, well: bool, failed: bool) -> bool:
        """Whether an `if:` holds; one that says nothing of the status asks for success too."""
        text = "success()" if condition is None else as_text(condition)
        whole = expressions.TEMPLATE.fullmatch(text.strip())
        text = whole[1] if whole else text
        text = text if STATUS.search(text) else f"success() && ({text})"
        said = {"always": True, "cancelled": False, "success": well, "failure": failed}
        functions = {name: (lambda value=value: value) for name, value in said.items()}
        return bool(expressions.evaluate(text, {**self.names(scope), **functions}))

    def fill(self, value: Any, scope: Scope) -> Any:
        return expressions.fill(value, self.names(scope))

    def filled(self, values: Mapping[str, Any], scope: Scope) -> dict[str, Any]:
        return {name: self.fill(value, scope) for name, value in values.items()}

    def texts(self, values: Mapping[str, Any], scope: Scope) -> dict[str, str]:
        return {name: as_text(value) for name, value in self.filled(values, scope).items()}

    def names(self, scope: Scope) -> dict[str, Any]:
        """The contexts, and the one function that reads files."""
        folder = self.machine.folder
        known = {
            "github": {**self.event.github, "workspace": str(folder), "job": self.name},
            "env": {**self.env, **scope.env},
            "runner": {"os": "Linux", "arch": "X64", "temp": str(self.temp)},
            "steps": scope.steps,
            "matrix": self.values,
            "inputs": scope.inputs or {},
            "hashFiles": self.digest,
        }
        # An action knows neither: the workflow has to give them.
        own = {"vars": dict(self.machine.variables), "needs": dict(self.needs)}
        return known | (own if scope.inputs is None else {})

    def digest(self, *patterns: str) -> str:
        """The digest over every file that a pattern matches; empty when none does."""
        folder = self.machine.folder
        globs = [f"{one}/*" if one.endswith("**") else one for one in patterns]
        found = sorted({file for one in globs for file in folder.glob(one) if file.is_file()})
        whole = b"".join(hashlib.sha256(file.read_bytes()).digest() for file in found)
        return hashlib.sha256(whole).hexdigest() if found else ""


def _assignments(file: Path) -> dict[str, str]:
    """What a step wrote to one of GitHub's files, a `name=value` in each line."""
    return dict(line.split("=", 1) for line in file.read_text().splitlines())
