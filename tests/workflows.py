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

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tests.events import Event, starts
from tests.jobs import Job, read
from tests.steps import Call, CallFailed, JobDone, Machine

FOLDER = Path(".github/workflows")


def names(tree: Path) -> list[str]:
    """The files of all workflows."""
    return sorted(path.name for path in (tree / FOLDER).glob("*.yml"))


def run(machine: Machine, name: str, event: Event) -> dict[str, tuple[JobDone, ...]]:
    """Run all jobs of one workflow in order, each once for every value of its matrix.

    Empty when the event does not start the workflow.
    """
    content = read(machine.tree / FOLDER / name)
    done: dict[str, tuple[JobDone, ...]] = {}
    for job in content["jobs"] if starts(content["on"], event) else ():
        needs = {need: _needed(done[need]) for need in _listed(content["jobs"][job], "needs")}
        about = Job(machine, content, job, event, needs)
        runs = tuple(_run(about, values) for values in (about.matrix() if about.wanted() else ()))
        done[job] = runs or (JobDone(job, "skipped"),)
    return done


def _run(job: Job, values: Mapping[str, str]) -> JobDone:
    """One run of a job, with its own values of the matrix, folder and environment."""
    with tempfile.TemporaryDirectory(prefix="runner-") as temp:
        return replace(job, values=values, temp=Path(temp), env={}, path=[]).run()


def _needed(done: Sequence[JobDone]) -> dict[str, Any]:
    """What `needs.JOB` is to the jobs that follow."""
    results = {job.result for job in done}
    worst = next((one for one in ("failure", "skipped") if one in results), "success")
    return {"result": worst, "outputs": dict(done[-1].outputs)}


def _listed(content: Mapping[str, Any], key: str) -> list[str]:
    value = content.get(key, [])
    return [value] if isinstance(value, str) else list(value)


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
