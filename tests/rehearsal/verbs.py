"""One verb at a time: the very script of a workflow's step, in a runner's folder as it was then."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from tests import workflows
from tests.events import Event
from tests.rehearsal.world import World
from tests.steps import Command, Watch, run, unwatched

SHELL = ("bash", "-e", "{0}")


@dataclass(frozen=True)
class Ended:
    """How a verb ended, what it printed, how long it took in seconds."""

    code: int
    out: str
    seconds: float

    @property
    def last(self) -> str:
        """Its last word."""
        return (self.out.strip().splitlines() or ["(nothing)"])[-1]


@dataclass(frozen=True)
class Bench:
    """A runner's folder, kept at one moment, to which every verb can be sent back."""

    world: World
    event: Event
    kept: Path

    @classmethod
    def keep(cls, world: World, event: Event, name: str, folder: Path | None = None) -> Bench:
        """The runner's folder as it is now, or another."""
        kept = world.base / name
        shutil.copytree(folder or world.runner, kept, symlinks=True)
        return cls(world, event, kept)

    def fresh(self) -> Bench:
        """Back to that moment."""
        shutil.rmtree(self.world.runner, ignore_errors=True)
        shutil.copytree(self.kept, self.world.runner, symlinks=True)
        return self

    def verb(
        self, workflow: str, job: str, words: str, watch: Watch = unwatched, **env: str
    ) -> Ended:
        """Run the step of a job that begins with these words."""
        folder, machine = self.world.runner, self.world.machine("", "main")
        with tempfile.TemporaryDirectory() as temp:
            found = {
                **machine.env,
                **self.event.environment(Path(temp), folder),
                # As the job's set-up says it to every step.
                "MLFLOW_TRACKING_URI": self.world.variables["MLFLOW_TRACKING_URI"],
                "GITHUB_TOKEN": "the-robots-own",
                "GITHUB_STEP_SUMMARY": str(Path(temp) / "summary.md"),
                "PATH": f"{folder}/.venv/bin{os.pathsep}{os.environ['PATH']}",
                **env,
            }
            start = time.monotonic()
            script = step(self.world.desk, workflow, job, words)
            code, out = run(Command(job, words, script, SHELL, found, folder), watch)
        return Ended(code, out, time.monotonic() - start)


def step(tree: Path, workflow: str, job: str, words: str) -> str:
    """The script of the step that begins with these words."""
    content = workflows.read(tree / ".github" / "workflows" / workflow)
    scripts = [str(one["run"]) for one in content["jobs"][job]["steps"] if "run" in one]
    return next(script for script in scripts if script.startswith(words))


def killed_after(seconds: float) -> Watch:
    """The power goes after that time: nothing in the step may tidy up."""

    def watch(command: Command, process: subprocess.Popen[bytes]) -> None:
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)

    return watch
