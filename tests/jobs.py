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
from tests.expressions import as_text, truthy
from tests.steps import Call, Command, JobDone, Machine, Outcome, StepDone, called, finished

# `$/` is the repository of the workflow, `./` the folder: the same here.
HERE = re.compile(r"(\$|\.)/")
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
        failed = any(result == "failure" for result in results)
        status = {"success": all(result == "success" for result in results), "failure": failed}
        return self.holds(self.content.get("if"), Scope(), status)

    def matrix(self) -> Iterator[dict[str, str]]:
        given = self.content.get("strategy", {}).get("matrix", {})
        lists = {name: self.fill(value, Scope()) for name, value in given.items()}
        for values in itertools.product(*lists.values()):
            yield dict(zip(lists, values, strict=True))

    def run(self) -> JobDone:
        scope = Scope()
        for level in (self.workflow, self.content):
            for name, value in level.get("env", {}).items():
                self.env[name] = as_text(self.fill(value, scope))
        for step in self.content["steps"]:
            self.step(step, scope)
        outputs = {
            name: as_text(self.fill(value, scope))
            for name, value in self.content.get("outputs", {}).items()
        }
        result: Outcome = "failure" if scope.failed else "success"
        environment = as_text(self.fill(self.content.get("environment"), scope))
        return JobDone(self.name, result, environment, outputs, tuple(scope.done))

    def step(self, step: Mapping[str, Any], scope: Scope) -> None:
        """Run a step where its `if:` holds, and note how it ended."""
        outer = scope.env
        scope.env = outer | {
            name: as_text(self.fill(value, scope)) for name, value in step.get("env", {}).items()
        }
        name = self.title(step, scope)
        if self.holds(
            step.get("if"), scope, {"success": not scope.failed, "failure": scope.failed}
        ):
            self.machine.say(f"{self.name}: {name}")
            done = self.command(step, name, scope) if "run" in step else self.use(step, name, scope)
        else:
            done = StepDone(name, "skipped")
        scope.env = outer
        forgiven = truthy(self.fill(step.get("continue-on-error"), scope))
        scope.failed |= done.outcome == "failure" and not forgiven
        scope.done.append(done)
        conclusion = "success" if forgiven and done.outcome == "failure" else done.outcome
        ended = {"outcome": done.outcome, "conclusion": conclusion, "outputs": dict(done.outputs)}
        scope.steps |= {step["id"]: ended} if "id" in step else {}

    def title(self, step: Mapping[str, Any], scope: Scope) -> str:
        said = step.get("name") or step.get("uses") or str(step["run"]).strip().splitlines()[0]
        return as_text(self.fill(said, scope))

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
        self.path = files["PATH"].read_text().split("\n")[:-1][::-1] + self.path
        return StepDone(
            name, done.outcome, done.out, done.code, done.seconds, _assignments(files["OUTPUT"])
        )

    def use(self, step: Mapping[str, Any], name: str, scope: Scope) -> StepDone:
        action = str(step["uses"]).split("@")[0]
        given = {key: self.fill(value, scope) for key, value in step.get("with", {}).items()}
        if HERE.match(action) and action not in self.machine.stand_ins:
            return self.composite(HERE.sub("", action, count=1), name, given, scope)
        inputs = {key: as_text(value) for key, value in given.items()}
        call = Call(action, inputs, self.environment(scope), self.machine.folder)
        return called(name, self.machine.stand_ins[action], call)

    def composite(self, place: str, name: str, given: Mapping[str, Any], outer: Scope) -> StepDone:
        """The steps of an action of the repository's own; they see its inputs, and no `vars`."""
        action = read(self.machine.tree / place / "action.yml")
        inputs = {
            key: as_text(given.get(key, about.get("default")))
            for key, about in action.get("inputs", {}).items()
        }
        scope = Scope(env=dict(outer.env), inputs=inputs)
        for step in action["runs"]["steps"]:
            self.step(step, scope)
        outputs = {
            key: as_text(self.fill(about["value"], scope))
            for key, about in action.get("outputs", {}).items()
        }
        out = "".join(step.out for step in scope.done)
        seconds = sum(step.seconds for step in scope.done)
        code = next((step.code for step in scope.done if step.code), 0)
        outcome: Outcome = "failure" if scope.failed else "success"
        return StepDone(name, outcome, out, code, seconds, outputs)

    def environment(self, scope: Scope) -> dict[str, str]:
        """What a step finds: the machine's environment, GitHub's, the workflow's, its own."""
        path = [*self.path, self.machine.env.get("PATH", "")]
        return {
            **self.machine.env,
            **self.event.environment(self.temp, self.machine.folder),
            "GITHUB_JOB": self.name,
            "GITHUB_STEP_SUMMARY": str(self.temp / "summary.md"),
            **self.env,
            **scope.env,
            "PATH": ":".join(path),
        }

    def holds(self, condition: Any, scope: Scope, status: Mapping[str, bool]) -> bool:
        """Whether an `if:` holds; one that says nothing of the status asks for success too."""
        text = "success()" if condition is None else as_text(condition)
        bare = re.fullmatch(r"\s*\$\{\{(.*)\}\}\s*", text, flags=re.DOTALL)
        text = bare[1] if bare and "${{" not in bare[1] else text
        text = text if STATUS.search(text) else f"success() && ({text})"
        said = {"always": True, "cancelled": False, **status}
        functions = {name: (lambda value=value: value) for name, value in said.items()}
        contexts = self.contexts(scope)
        functions["hashFiles"] = self.digest
        return truthy(expressions.evaluate(text, contexts, functions))

    def fill(self, value: Any, scope: Scope) -> Any:
        if not isinstance(value, str):
            return value
        return expressions.fill(value, self.contexts(scope), {"hashFiles": self.digest})

    def contexts(self, scope: Scope) -> dict[str, Any]:
        known = {
            "github": {
                **self.event.github,
                "workspace": str(self.machine.folder),
                "job": self.name,
            },
            "env": {**self.env, **scope.env},
            "runner": {"os": "Linux", "arch": "X64", "temp": str(self.temp)},
            "steps": scope.steps,
            "matrix": self.values,
            "inputs": scope.inputs or {},
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
    """What a step wrote to one of GitHub's files: `name=value`, or `name<<END` and lines."""
    form = r"^(?P<name>[^\s=<]+)(?:=(?P<value>.*)|<<(?P<end>.+)\n(?P<text>(?:.*\n)*?)(?P=end))$"
    return {
        found["name"]: found["value"] if found["end"] is None else found["text"][:-1]
        for found in re.finditer(form, file.read_text(), flags=re.MULTILINE)
    }
