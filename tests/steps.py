"""What the executors of both CI systems share: a step is a script that bash runs in a folder."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Outcome = Literal["success", "failure", "cancelled", "skipped"]

# What a CI system says to its steps, and the tests' own runner must not.
FORGES = (
    *("ACTIONS_", "AGENT_", "BUILD_", "GITHUB_"),
    *("INPUT_", "RUNNER_", "SYSTEM_", "TF_BUILD", "CI"),
)
LONGEST_SECONDS = 600.0


@dataclass(frozen=True)
class Command:
    """A script about to run: which job and step it is of, by which shell, with what environment."""

    job: str
    step: str
    script: str
    shell: tuple[str, ...]
    env: Mapping[str, str]
    folder: Path


@dataclass(frozen=True)
class Call:
    """An action or task about to run: its name without the version, and what it is given."""

    name: str
    inputs: Mapping[str, str]
    folder: Path


@dataclass(frozen=True)
class StepDone:
    """How a step ended, what it printed on both streams, and what it gave to later ones."""

    name: str
    outcome: Outcome
    out: str = ""
    seconds: float = 0.0
    outputs: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class JobDone:
    """How a job ended; `environment` is the forge's, whose approval it waited for."""

    name: str
    result: Outcome
    environment: str = ""
    outputs: Mapping[str, str] = field(default_factory=dict)
    steps: tuple[StepDone, ...] = ()

    @property
    def out(self) -> str:
        """Everything that the job printed."""
        return "".join(step.out for step in self.steps)


class CallFailed(Exception):
    """Raised by a stand-in for an action or task: the step fails, and says this."""


# Takes the place of an action or task; gives its outputs.
StandIn = Callable[[Call], Mapping[str, str] | None]


def surroundings() -> dict[str, str]:
    """This process's environment without what a CI system told it."""
    return {name: value for name, value in os.environ.items() if not name.startswith(FORGES)}


@dataclass(frozen=True)
class Machine:
    """A runner: the repository whose CI files it follows, and the folder in which steps run.

    `stand_ins` take the place of actions and tasks, by their names without the version.
    `variables` are those that the forge's settings hold; `env` is the environment that was there
    before the CI system.
    """

    tree: Path
    folder: Path
    stand_ins: Mapping[str, StandIn] = field(default_factory=dict)
    variables: Mapping[str, str] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=surroundings)
    say: Callable[[str], None] = lambda line: None


def run_script(command: Command) -> StepDone:
    """Run a script to its end.

    Nothing that it started outlives it, as on a runner that is thrown away.
    """
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="step-") as place:
        script, out = Path(place) / "step.sh", Path(place) / "out"
        script.write_text(command.script)
        with out.open("wb") as stream:
            process = subprocess.Popen(
                [part.replace("{0}", str(script)) for part in command.shell],
                cwd=command.folder,
                env=dict(command.env),
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            try:
                process.wait(LONGEST_SECONDS)
            finally:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        outcome: Outcome = "failure" if process.returncode else "success"
        text = out.read_text(errors="replace")
    return StepDone(command.step, outcome, text, time.monotonic() - start)
