"""A whole team in a folder: a bare repository, a forge, a runner with its caches, a person.

What happens to the repository starts the workflows that the forge would start, and their own
`run:` steps are executed. Real are Git, DVC with a remote folder, MLflow on SQLite, a Prefect
server, the forge's HTTP; stand-ins are the actions that check out, cache and keep artifacts.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from mlops.base.files import folder_digest
from tests import events, workflows
from tests.conftest import PROJECTS
from tests.events import Event
from tests.forge_server import ForgeServer
from tests.forge_state import OWNER
from tests.mlops.deploy.processes import stop
from tests.repository_copy import REPOSITORY, copied
from tests.settings import change
from tests.steps import Call, JobDone, Machine, surroundings

# What of the template is a project's own, or the tests'.
OF_A_PROJECT = re.compile(r"src/(?!mlops/)|tests/|dvc\.")
WORKFLOWS = ("retrain.yml", "comment.yml", "deploy.yml", "drift.yml", "promote.yml")
LOG = "logs/stages.jsonl"
# Enough to find a model; the loop has to be quick here, not good.
FEW: dict[str, Any] = {
    "model": "trips-model",
    "data.until": "2023-02-28",
    "split.folds": 1,
    "tune.max_evals": 1,
    "tune.families": ["lightgbm"],
    "gate.limits": {"roc_auc": 0.55},
    "gate.margin": 0.12,
}
# A canary takes over as everywhere, only sooner; what people release here differs on purpose.
MANIFEST = """\
# Written by people.
target: {target}
endpoint: trips
rollout:
  steps: [50]
  bake_seconds: 1
  requests: 20
  limits: {{errors: 0.0, latency: 100.0, drift: 100.0}}
pin: null
"""


# The local target on a machine that is not thrown away with the job, as a team's own server.
SERVER = """\
import os
from dataclasses import replace
from pathlib import Path

from mlops.deploy import local

SETTINGS = ()


def _there(name):
    def call(endpoint, *arguments):
        place = replace(endpoint, root=Path(os.environ["SERVER"]))
        return getattr(local, name)(place, *arguments)
    return call


deploy, traffic, health, ask, current, remove, note = map(
    _there, ("deploy", "traffic", "health", "ask", "current", "remove", "note")
)
"""


def say(line: str) -> None:
    """Progress, for whoever watches."""
    print(f"[{time.strftime('%H:%M:%S')}] {line}", file=sys.stderr, flush=True)


@dataclass
class World:
    """Everything that outlives a runner, in `base`."""

    base: Path
    forge: ForgeServer
    prefect: str
    variables: dict[str, str] = field(default_factory=dict)
    scopes: dict[str, list[str]] = field(default_factory=lambda: {"main": [], "pull": []})
    stages: list[str] = field(default_factory=list)
    env: dict[str, str] = field(default_factory=dict)

    @property
    def origin(self) -> Path:
        return self.base / "origin.git"

    @property
    def desk(self) -> Path:
        """The person's own clone."""
        return self.base / "desk"

    @property
    def server(self) -> Path:
        """The machine that serves, which outlives every runner."""
        return self.base / "server"

    @property
    def runner(self) -> Path:
        """The folder in which every job begins anew; a forge's runners have one path too."""
        return self.base / "runner"

    def create(self, tables: Path, target: str) -> World:
        """This repository with the tests' project and configuration, pushed for the first time."""
        subprocess.run(["git", "init", "-q", "--bare", "-b", "main", self.origin], check=True)
        copied(self.desk, OF_A_PROJECT)
        shutil.copytree(PROJECTS / "trips", self.desk / "src/trips")
        for name in ("dvc.yaml", "params.yaml"):
            shutil.copy(PROJECTS / name, self.desk)
        change(self.desk, {**FEW, "data.location": str(tables)})
        for name in ("staging", "production"):
            (self.desk / f"environments/{name}.yaml").write_text(MANIFEST.format(target=target))
        (self.desk / "src/trips/server.py").write_text(SERVER)
        self.server.mkdir()
        self.git("init", "--quiet", "--initial-branch=main")
        for name, value in {"user.name": "Maria", "user.email": "maria@team.invalid"}.items():
            self.git("config", name, value)
        self.git("remote", "add", "origin", str(self.origin))
        self.commit("A start")
        self.git("push", "--quiet", "origin", "main")
        return self

    def end(self) -> None:
        """Nothing serves any more."""
        stop(self.runner)
        stop(self.server)

    def git(self, *arguments: str) -> str:
        done = subprocess.run(
            ["git", *arguments], cwd=self.desk, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def commit(self, message: str) -> str:
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message", message)
        return self.git("rev-parse", "HEAD")

    def propose(
        self, branch: str, changes: Mapping[str, Any], title: str, owner: str = OWNER
    ) -> tuple[int, Runs]:
        """A person opens a pull request that changes params.yaml; what the forge does then."""
        self.git("fetch", "--quiet", "origin", "main")
        self.git("switch", "--quiet", "--create", branch, "origin/main")
        change(self.desk, changes)
        return self.open(branch, self.commit(title), owner)

    def open(self, branch: str, commit: str, owner: str = OWNER) -> tuple[int, Runs]:
        """Push a branch and open its pull request; what the forge does then."""
        self.git("push", "--quiet", "origin", branch)
        pull = self.forge.open(branch, owner=owner)
        names = self.git("diff", "--name-only", "origin/main").split()
        pull.files = [(name,) for name in names]
        self.forge.contents = {name: (self.desk / name).read_bytes() for name in names}
        number = pull.number
        return number, self.judge(number, branch, commit, owner)

    def judge(self, number: int, branch: str, commit: str, owner: str = OWNER) -> Runs:
        """What the forge does about a pull request: judge it, then comment."""
        base = self.git("rev-parse", "origin/main")
        event = events.pull_request(number, branch, owner, sha=commit, base=base)
        runs = self.happens(event, commit)
        runs |= self.happens(
            events.completed("retrain", event, runs["judge"].result, commit, commit), commit
        )
        return runs

    def merge(self, branch: str, message: str = "") -> Runs:
        """A person merges a pull request by squashing; what the forge does then."""
        return self._pushed(*self.squash(branch, message))

    def squash(self, branch: str, message: str = "") -> tuple[str, str]:
        """The merge alone: main before and after it."""
        self.git("fetch", "--quiet", "origin", "main", branch)
        self.git("switch", "--quiet", "--force-create", "main", "origin/main")
        before = self.git("rev-parse", "HEAD")
        self.git("merge", "--quiet", "--squash", f"origin/{branch}")
        commit = self.commit(message or f"Merge {branch}")
        self.git("push", "--quiet", "origin", "main")
        self.git("push", "--quiet", "origin", "--delete", branch)
        for pull in self.forge.pulls:
            if (pull.branch, pull.state) == (branch, "open"):
                self.forge.close(pull.number)
        return before, commit

    def push(self) -> Runs:
        """The person's main goes to the forge; what the forge does then."""
        self.git("fetch", "--quiet", "origin", "main")
        before, commit = self.git("rev-parse", "origin/main"), self.git("rev-parse", "HEAD")
        self.git("push", "--quiet", "origin", "HEAD:main")
        return self._pushed(before, commit)

    def _pushed(self, before: str, commit: str) -> Runs:
        files = self.git("diff", "--name-only", before, commit).split()
        return self.happens(events.push(before, commit, tuple(files)), commit)

    def at_the_forge(self, event: Event, commit: str) -> Event:
        """The event with what a forge tells of itself."""
        url = self.forge.url
        return event.with_context(
            sha=commit, api_url=f"{url}/api/v3", server_url=url, token="the-robots-own"
        )

    def happens(self, event: Event, commit: str) -> Runs:
        """Run every workflow that the event starts."""
        event = self.at_the_forge(event, commit)
        self.stages = []
        (self.runner / LOG).unlink(missing_ok=True)
        done = Runs()
        for name in WORKFLOWS:
            scope = "pull" if event.name == "pull_request" else "main"
            machine = self.machine(commit, scope)
            for job, runs in workflows.run(machine, name, event).items():
                for number, run in enumerate(run for run in runs if run.result != "skipped"):
                    done[f"{job} {number}" if number else job] = run
        return done

    def machine(self, commit: str, scope: str) -> Machine:
        """A runner for one workflow; `scope` says whose caches it may read."""
        artifacts = workflows.Artifacts(self.base / "artifacts")
        return Machine(
            tree=self.desk,
            folder=self.runner,
            stand_ins={
                "actions/checkout": lambda call: self._checkout(call, commit),
                "actions/setup-python": lambda call: {"python-version": "3.11"},
                "actions/cache": self._venv,
                "actions/cache/restore": lambda call: self._restore(call, scope),
                "actions/cache/save": lambda call: self._save(call, scope),
                "actions/upload-artifact": artifacts.upload,
                "actions/download-artifact": artifacts.download,
            },
            variables=self.variables,
            env={
                **surroundings(),
                "PYTHONPATH": str(self.runner / "src"),
                "PREFECT_API_URL": self.prefect,
                "DVC_SITE_CACHE_DIR": str(self.base / "dvc"),
                "SERVER": str(self.server),
                **self.env,
            },
            say=say,
        )

    def executed(self) -> list[str]:
        """The stages that really ran since the last event."""
        return [*self.stages, *self._logged()]

    def _logged(self) -> list[str]:
        path = self.runner / LOG
        lines = path.read_text().splitlines() if path.exists() else []
        return [json.loads(line)["stage"] for line in lines]

    def pinned(self, environment: str) -> dict[str, Any] | None:
        """What main pins."""
        self.git("fetch", "--quiet", "origin", "main")
        content = yaml.safe_load(self.git("show", f"origin/main:environments/{environment}.yaml"))
        pin: dict[str, Any] | None = content["pin"]
        return pin

    def running(self, environment: str) -> str | None:
        """The digest of the bytes that run in an environment."""
        home = self.server / ".run/local" / environment
        if not (home / "state.json").exists():
            return None
        bundles = json.loads((home / "state.json").read_text())["bundles"]
        return folder_digest(home / max(bundles, key=lambda name: bundles[name]["percent"]))

    def evict(self) -> None:
        """The forge forgets every cache; so do the registry and the runners, who have none."""
        shutil.rmtree(self.base / "cache", ignore_errors=True)
        self.scopes = {"main": [], "pull": []}

    def _checkout(self, call: Call, commit: str) -> None:
        wanted = call.inputs.get("ref") or commit
        self.stages += self._logged()
        shutil.rmtree(self.runner, ignore_errors=True)
        subprocess.run(["git", "clone", "-q", self.origin, self.runner], check=True)
        for command in (f"fetch -q origin {wanted}", f"checkout -q {wanted}"):
            subprocess.run(["git", *command.split()], cwd=self.runner, check=True)
        # As old as they are, so that the environment is not taken for stale.
        for name in ("requirements.lock", "infra/forge/requirements.lock", "pyproject.toml"):
            os.utime(self.runner / name, (0, 0))

    def _venv(self, call: Call) -> None:
        """An environment of links: what `make setup` would clear is these, not this one's files."""
        venv = self.runner / ".venv"
        venv.mkdir()
        for entry in (REPOSITORY / ".venv").resolve().iterdir():
            if entry.name != ".stamp":
                (venv / entry.name).symlink_to(entry)
        (venv / ".stamp").write_text(f"{venv.resolve()}\n")

    def _restore(self, call: Call, scope: str) -> None:
        """As GitHub does: the very key, else the newest that begins like one.

        A pull request reads main's caches too, and main never a pull request's.
        """
        keys = [*self.scopes["main"], *(self.scopes[scope] if scope != "main" else [])]
        for begin in [call.inputs["key"], *call.inputs.get("restore-keys", "").split()]:
            found = [key for key in keys if key.startswith(begin)]
            if found:
                kept = self.base / "cache" / found[-1]
                shutil.copytree(kept, self.runner, symlinks=True, dirs_exist_ok=True)
                return

    def _save(self, call: Call, scope: str) -> None:
        """As GitHub does: nothing of a key that is there, or of paths that are not."""
        key = call.inputs["key"]
        found = [path for path in call.inputs["path"].split() if (self.runner / path).exists()]
        if key in self.scopes[scope] or not found:
            return
        for path in found:
            target = self.base / "cache" / key / path
            shutil.copytree(self.runner / path, target, symlinks=True, dirs_exist_ok=True)
        self.scopes[scope].append(key)


class Runs(dict[str, JobDone]):
    """The jobs that ran, by name; a matrix's second one is `NAME 1`."""

    @property
    def results(self) -> dict[str, str]:
        return {name: run.result for name, run in self.items()}

    @property
    def out(self) -> str:
        return "".join(run.out for run in self.values())
