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

from tests import events, workflows
from tests.events import Event
from tests.forge_server import ForgeServer
from tests.mlops.deploy.processes import stop
from tests.settings import change
from tests.steps import Call, JobDone, Machine, Watch, surroundings, unwatched

REPOSITORY = Path(__file__).parents[2]
WORKFLOWS = ("retrain.yml", "comment.yml", "deploy.yml", "drift.yml", "promote.yml")
# Enough to find a model; the loop has to be quick here, not good.
FEW: dict[str, Any] = {
    "data.source": "files",
    "data.until": "2013-02-28",
    "split.holdout_days": 21,
    "split.validation_days": 14,
    "split.folds": 1,
    "tune.max_evals": 1,
    "tune.families": ["lightgbm"],
    "train.reference_rows": 200,
    "evaluate.draws": 50,
    "evaluate.importance_rows": 100,
    "evaluate.importance_repeats": 1,
    "gate.limits": {"roc_auc": 0.6},
    "gate.margin": 0.03,
    "gate.slice_rows": 500,
    "gate.slice_limit": None,
    "gate.slice_margin": 0.1,
    "gate.latency_ms": 100.0,
    "gate.draws": 50,
}
# A canary takes over as everywhere, only sooner; what people release here differs on purpose.
ROLLOUT = """\
rollout:
  steps: [50]
  bake_seconds: 1
  requests: 20
  limits: {errors: 0.0, latency: 100.0, drift: 100.0}
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

    @property
    def origin(self) -> Path:
        return self.base / "origin.git"

    @property
    def desk(self) -> Path:
        """The person's own clone."""
        return self.base / "desk"

    @property
    def runner(self) -> Path:
        """The folder in which every job begins anew; a forge's runners have one path too."""
        return self.base / "runner"

    def found(self, tables: Path, model: str) -> World:
        """A repository like this one, on little data, pushed for the first time."""
        subprocess.run(["git", "init", "-q", "--bare", "-b", "main", self.origin], check=True)
        _copy_of_this(self.desk)
        change(self.desk, {**FEW, "model": model, "data.location": str(tables)})
        for manifest in (self.desk / "environments").glob("*.yaml"):
            quick = re.sub(
                r"^rollout:.*(?=^pin:)", ROLLOUT, manifest.read_text(), flags=re.M | re.S
            )
            manifest.write_text(quick)
        (self.desk / "dvc.lock").unlink(missing_ok=True)
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

    def leave(self, place: Path) -> None:
        """Leave DVC's cache of main's newest job to other worlds, unless one has done so."""
        keys = [key for key in self.scopes["main"] if key.startswith("dvc-")]
        if keys and not place.exists():
            (self.base / "cache" / keys[-1]).rename(place)

    def remember(self, place: Path) -> None:
        """Let main's jobs find what another world has left, as the cache of an earlier day."""
        if place.exists():
            shutil.copytree(place, self.base / "cache" / "dvc-earlier", symlinks=True)
            self.scopes["main"].append("dvc-earlier")

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

    def propose(self, branch: str, changes: Mapping[str, Any], title: str) -> tuple[int, Runs]:
        """A person opens a pull request that changes params.yaml; what the forge does then."""
        self.git("fetch", "--quiet", "origin", "main")
        self.git("switch", "--quiet", "--create", branch, "origin/main")
        change(self.desk, changes)
        commit = self.commit(title)
        self.git("push", "--quiet", "origin", branch)
        number = self.forge.open(branch, title=title).number
        return number, self.judge(number, branch, commit)

    def judge(self, number: int, branch: str, commit: str, watch: Watch = unwatched) -> Runs:
        """What the forge does about a pull request: judge it, then comment."""
        event = events.pull_request(number, branch, sha=commit)
        runs = self.happens(event, commit, watch)
        conclusion = runs["judge"].result
        runs |= self.happens(events.completed("retrain", event, conclusion, commit), commit, watch)
        return runs

    def merge(self, branch: str, message: str = "", watch: Watch = unwatched) -> Runs:
        """A person merges a pull request by squashing; what the forge does then."""
        before, commit, files = self.squash(branch, message)
        return self.happens(events.push(before, commit, tuple(files)), commit, watch)

    def squash(self, branch: str, message: str = "") -> tuple[str, str, list[str]]:
        """The merge alone: main before and after it, and the files that it changed."""
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
        return before, commit, self.git("diff", "--name-only", before, commit).split()

    def push(self, watch: Watch = unwatched) -> Runs:
        """The person's main goes to the forge; what the forge does then."""
        self.git("fetch", "--quiet", "origin", "main")
        before, commit = self.git("rev-parse", "origin/main"), self.git("rev-parse", "HEAD")
        self.git("push", "--quiet", "origin", "HEAD:main")
        files = self.git("diff", "--name-only", before, commit).split()
        return self.happens(events.push(before, commit, tuple(files)), commit, watch)

    def happens(self, event: Event, commit: str, watch: Watch = unwatched) -> Runs:
        """Run every workflow that the event starts."""
        event = event.with_context(
            sha=commit,
            api_url=f"{self.forge.url}/api/v3",
            server_url=self.forge.url,
            token="the-robots-own",
        )
        done = Runs()
        for name in WORKFLOWS:
            scope = "pull" if event.name == "pull_request" else "main"
            machine = self.machine(commit, scope, watch)
            for job, runs in workflows.run(machine, name, event).items():
                for number, run in enumerate(run for run in runs if run.result != "skipped"):
                    done[f"{job} {number}" if number else job] = run
        return done

    def machine(self, commit: str, scope: str, watch: Watch = unwatched) -> Machine:
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
            },
            watch=watch,
            say=say,
        )

    def executed(self) -> list[str]:
        """The stages that really ran on the runner's last job."""
        path = self.runner / "logs" / "stages.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        return [json.loads(line)["stage"] for line in lines]

    def pinned(self, environment: str) -> dict[str, Any] | None:
        """What main pins."""
        self.git("fetch", "--quiet", "origin", "main")
        content = yaml.safe_load(self.git("show", f"origin/main:environments/{environment}.yaml"))
        pin: dict[str, Any] | None = content["pin"]
        return pin

    def kept(self, name: str) -> Path:
        """The newest copy of a folder that main's jobs kept: `mlruns`, `.run/local`."""
        keys = [key for key in self.scopes["main"] if key.startswith("world-")]
        return self.base / "cache" / keys[-1] / name

    def running(self, environment: str) -> str | None:
        """The digest of the bytes that run in an environment."""
        from mlops.base.files import folder_digest

        home = self.kept(".run/local") / environment
        if not (home / "state.json").exists():
            return None
        bundles = json.loads((home / "state.json").read_text())["bundles"]
        return folder_digest(home / max(bundles, key=lambda name: bundles[name]["percent"]))

    def _checkout(self, call: Call, commit: str) -> None:
        wanted = call.inputs.get("ref") or commit
        shutil.rmtree(self.runner, ignore_errors=True)
        subprocess.run(["git", "clone", "-q", self.origin, self.runner], check=True)
        run = [f"git -C {self.runner} fetch -q origin {commit}"] if wanted == commit else []
        for command in [*run, f"git -C {self.runner} checkout -q {wanted}"]:
            subprocess.run(command.split(), check=True)
        # As old as they are, so that the environment is not taken for stale.
        for name in ("requirements.lock", "pyproject.toml"):
            os.utime(self.runner / name, (0, 0))

    def _venv(self, call: Call) -> None:
        (self.runner / ".venv").symlink_to(REPOSITORY / ".venv")

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


def _copy_of_this(target: Path) -> None:
    """The files of this repository as they are here, those not yet committed too."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        if (REPOSITORY / name).is_file() and not name.startswith("tests/"):
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(REPOSITORY / name, target / name)
