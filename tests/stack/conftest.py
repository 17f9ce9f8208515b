"""A team's repository with a small project, deployed on real servers."""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mlops.base import processes
from tests.conftest import PROJECTS
from tests.repository_copy import copied
from tests.settings import change
from tests.stack.servers import NAMES, Server, Servers

OWN = Path(__file__).parent / "repository"
PROJECT = "diabetes"
NOT_COPIED = re.compile("(tests|docs|environments|src/flights)/|dvc.lock")
MANIFEST = """\
target: local
endpoint: diabetes
rollout:
  steps: []
  bake_seconds: 1
  requests: 20
  limits: {errors: 0.0, latency: 100.0, drift: 100.0}
  shadow: false
pin: null
"""


@dataclass
class Team:
    """A clone, its bare origin, the servers, and a worker that runs what is due."""

    base: Path
    servers: Servers

    @property
    def desk(self) -> Path:
        """The clone that people work in; the worker runs in its .run/worker."""
        return self.base / "desk"

    @property
    def origin(self) -> Path:
        return self.base / "origin.git"

    @property
    def env(self) -> dict[str, str]:
        path = [Path(sys.executable).parent, os.environ["PATH"]]
        return {
            **{name: value for name, value in os.environ.items() if "PREFECT" not in name},
            **self.servers.environment,
            "PREFECT_WORKER_QUERY_SECONDS": "3",
            "PYTHONPATH": str(self.desk / "src"),
            "PATH": os.pathsep.join(map(str, path)),
            "DVC_SITE_CACHE_DIR": str(self.base / "dvc"),
        }

    def succeed(self, *arguments: str, **env: str) -> str:
        """Run Python in the clone; its output. The test fails where it does."""
        command = [sys.executable, *arguments]
        return processes.run(command, cwd=self.desk, env={**self.env, **env})

    def git(self, *arguments: str) -> str:
        return processes.run(["git", *arguments], cwd=self.desk).strip()

    def push(self, message: str) -> None:
        """Commit everything and push it to main."""
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", message)
        self.git("push", "--quiet", "origin", "main")

    def prefect(self, query: Callable[[Any], Any]) -> Any:
        """The result of a coroutine function that is given a client of Prefect's server."""

        async def call() -> Any:
            from prefect.client.orchestration import get_client
            from prefect.settings import PREFECT_API_URL, temporary_settings

            with temporary_settings({PREFECT_API_URL: self.env["PREFECT_API_URL"]}):
                async with get_client() as client:
                    return await query(client)

        return asyncio.run(call())

    def schedule(self, deployment: str, **parameters: Any) -> Any:
        """Make a run of a deployment due now, as its schedule does; the run's id."""
        from prefect.states import Scheduled

        async def create(client: Any) -> Any:
            found = await client.read_deployment_by_name(deployment)
            run = await client.create_flow_run_from_deployment(
                found.id, parameters=parameters or None, state=Scheduled()
            )
            return run.id

        return self.prefect(create)

    def final_state(self, run: Any) -> Any:
        """The state in which a run has ended."""

        def state() -> Any:
            current = self.prefect(lambda client: client.read_flow_run(run)).state
            return current if current.is_final() else None

        return self.eventually(state)

    def set_state(self, run: Any, state: Any) -> None:
        self.prefect(lambda client: client.set_flow_run_state(run, state))

    def eventually(self, value: Callable[[], Any], seconds: float = 600) -> Any:
        """The first true value of a function; the test fails with the worker's log without one."""
        deadline = time.monotonic() + seconds
        while not (current := value()):
            assert time.monotonic() < deadline, self.servers.log("worker")
            time.sleep(0.2)
        return current


@pytest.fixture(scope="session")
def team(repository: Any) -> Iterator[Team]:
    """All servers running, a model trained, published and pinned, the deployments registered."""
    # Not below pytest's folders, which PostgreSQL's user can't read.
    base = Path(tempfile.mkdtemp(prefix="mlops-stack-"))
    base.chmod(0o755)
    try:
        team = Team(base, Servers(base))
        _create_repository(team, repository)
        command = f"{shlex.quote(sys.executable)} -m flows worker"
        worker = Server(command, variables=team.env, options={"cwd": team.desk})
        try:
            team.servers.start_all()
            _release(team)
            team.servers.servers["worker"] = worker
            team.servers.start("worker")
            yield team
        finally:
            team.servers.kill(*reversed(team.servers.servers))
    finally:
        shutil.rmtree(base, ignore_errors=True)


@pytest.fixture
def stopped(team: Team) -> Iterator[Callable[..., None]]:
    """Kill servers by name; they are started again after the test."""
    yield team.servers.kill
    team.servers.start(*NAMES, "worker")


def _create_repository(team: Team, workspace: Any) -> None:
    """The template with the small project in place of the example, pushed to its origin."""
    project = workspace(PROJECT, team.base / "project").root
    copied(team.desk, NOT_COPIED)
    shutil.copytree(PROJECTS / PROJECT, team.desk / "src" / PROJECT)
    shutil.copytree(OWN, team.desk, dirs_exist_ok=True)
    shutil.copy(project / "params.yaml", team.desk)
    few = {"data.location": str(project / "csv"), "data.until": "2020-05-07",
           "tune.families": ["lightgbm"], "tune.max_evals": 1,
           # The next model, made from more rows, has to pass, whatever its error.
           "gate.margin": 1000.0, "gate.slice_margin": 1000.0}  # fmt: skip
    change(team.desk, few)
    (team.desk / "environments").mkdir()
    for environment in ("staging", "production"):
        (team.desk / f"environments/{environment}.yaml").write_text(MANIFEST)
    remote = "[core]\n    remote = store\n['remote \"store\"']\n    url = azure://dvc/models\n"
    (team.desk / ".dvc/config").write_text(remote)
    processes.run(["git", "init", "-q", "--bare", "-b", "main", str(team.origin)])
    team.git("init", "--quiet", "--initial-branch=main")
    team.git("config", "user.name", "Maria")
    team.git("config", "user.email", "maria@team.invalid")
    team.git("remote", "add", "origin", str(team.origin))
    team.push("Start")


def _release(team: Team) -> None:
    """Train, publish and pin a model; register the deployments of the commit that pins it."""
    from flows import checkout

    team.succeed("-m", "flows", "training")
    team.push("Train")
    for verb in (["publish"], ["gate"], ["release", "production"]):
        team.succeed("-c", "from mlops.cli import main; main()", *verb)
    # A person merges what was proposed.
    team.git("fetch", "--quiet", "origin")
    team.git("merge", "--quiet", "--ff-only", "origin/release/production")
    team.git("push", "--quiet", "origin", "main", ":release/production")
    # The service writes its samples here; there are none yet.
    (team.desk / ".run/local/production/samples").mkdir(parents=True)
    # The environment that the worker would create from the lock, as links to this one.
    content = b"".join((team.desk / name).read_bytes() for name in checkout.LOCKS)
    environment = team.desk / ".run/worker" / checkout.environment_of(content)
    environment.mkdir(parents=True)
    for path in Path(sys.prefix).iterdir():
        (environment / path.name).symlink_to(path)
    (environment / ".stamp").unlink(missing_ok=True)
    (environment / ".stamp").write_text(f"{environment.resolve()}\n")
    team.succeed("-m", "flows", "deploy")
