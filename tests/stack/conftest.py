"""The team's servers, real ones, and a repository whose deployments they run."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.conftest import Shared
from tests.rehearsal.world import World

REPOSITORY = Path(__file__).parents[2]
STORE = REPOSITORY / "infra/local/node_modules/.bin"
NEEDED = {
    "initdb": "PostgreSQL", "azurite-blob": "Azurite", "prometheus": "Prometheus",
    "promtool": "promtool", "prometheus-pushgateway": "Prometheus' gateway",
}  # fmt: skip
# What is asked for as soon as it is due, where people wait some seconds.
SOON = {"PREFECT_WORKER_QUERY_SECONDS": "3"}


def require(*programs: str) -> None:
    """Skip where a program is missing, and say which."""
    path = os.pathsep.join([str(STORE), os.environ["PATH"], *_debians()])
    missing = [NEEDED[name] for name in programs if shutil.which(name, path=path) is None]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")


def _debians() -> list[str]:
    return [str(folder) for folder in Path("/usr/lib/postgresql").glob("*/bin")]


@dataclass
class Team:
    """A repository, its bare origin, the stack that it is deployed on."""

    world: World
    home: Any
    env: dict[str, str]

    @property
    def desk(self) -> Path:
        return self.world.desk

    @property
    def clone(self) -> Path:
        """The revision that the worker runs."""
        (found,) = (self.desk / ".run/worker/revisions").iterdir()
        return found

    def run(self, *command: str, **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *command], cwd=self.desk, env={**self.env, **env},
            capture_output=True, text=True, check=False, timeout=300,
        )  # fmt: skip

    def mlops(self, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
        return self.run("-c", "from mlops.cli import main; main()", *words, **env)

    def ask(self, question: Callable[[Any], Any]) -> Any:
        """What Prefect's server says to a question put to its client."""

        async def asked() -> Any:
            from prefect.client.orchestration import get_client
            from prefect.settings import PREFECT_API_URL, temporary_settings

            with temporary_settings({PREFECT_API_URL: self.env["PREFECT_API_URL"]}):
                async with get_client() as client:
                    return await question(client)

        return asyncio.run(asked())

    def due(self, deployment: str, **parameters: Any) -> Any:
        """Let a deployment's run be due now, as its schedule does; its id."""
        from prefect.states import Scheduled

        async def schedule(client: Any) -> Any:
            found = await client.read_deployment_by_name(deployment)
            run = await client.create_flow_run_from_deployment(
                found.id, parameters=parameters or None, state=Scheduled()
            )
            return run.id

        return self.ask(schedule)

    def ended(self, run: Any, seconds: float = 180) -> Any:
        """The state in which a run has ended."""
        deadline = time.monotonic() + seconds
        while True:
            state = self.state(run)
            if state.is_final():
                return state
            assert time.monotonic() < deadline, (state, self.log("worker"))
            time.sleep(0.5)

    def state(self, run: Any) -> Any:
        async def read(client: Any) -> Any:
            return (await client.read_flow_run(run)).state

        return self.ask(read)

    def log(self, name: str) -> str:
        return (self.home.folder / "logs" / f"{name}.log").read_text()[-6000:]

    def runs(self, module: str) -> bool:
        """Whether a process of the worker's runs a module."""
        return any(
            process.info["cmdline"][-1:] == [module]
            and (process.info["cwd"] or "").startswith(str(self.desk))
            for process in psutil.process_iter(["cmdline", "cwd"])
            if process.info["cmdline"]
        )

    def kill(self, name: str) -> None:
        """End one of the stack's processes and all that it started, as lost power does."""
        pid = json.loads((self.home.folder / "processes.json").read_text())[name]["pid"]
        known = psutil.Process(pid)
        # First who would start the others again.
        for process in [known, *known.children(recursive=True)]:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs([known], timeout=10)

    def revive(self) -> None:
        """Start what does not run."""
        done = self.run("-c", f"from mlops import stack; from pathlib import Path; "
                        f"list(stack.up(Path(), Path({str(self.home.folder)!r})))")  # fmt: skip
        assert done.returncode == 0, done.stderr


@pytest.fixture(scope="session")
def team(shared: Shared, repository: Any) -> Iterator[Team]:
    """Everything running, a model trained, released and pushed, the deployments registered."""
    require(*NEEDED)
    from mlops import stack
    from mlops.stack.home import Home

    # PostgreSQL has a user of its own, who can't look into pytest's folders.
    base = Path(tempfile.mkdtemp(prefix="mlops-stack-"))
    base.chmod(0o755)
    tables = shared.folder("world", lambda root: repository("flights", root)) / "csv"
    world = World(base, None, "").found(tables, "flights-late")
    home = Home.at(world.desk, base / "stack")
    env = {
        **{name: value for name, value in os.environ.items() if "PREFECT" not in name},
        **home.environment(), **SOON,
        "PYTHONPATH": str(world.desk / "src"),
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), str(STORE), os.environ["PATH"]]),
        "DVC_SITE_CACHE_DIR": str(base / "dvc"),
        "SHELL": "/bin/sh",
    }  # fmt: skip
    made = Team(world, home, env)
    try:
        made.revive()
        _set_up(made, shared.base / "trained")
        yield made
    finally:
        stack.down(world.desk, home.folder)
        shutil.rmtree(base, ignore_errors=True)


def _set_up(team: Team, trained: Path) -> None:
    _remote(team)
    if trained.exists():
        # Another world has trained this; here it is a cache hit.
        shutil.copytree(trained / ".dvc", team.desk / ".dvc", symlinks=True, dirs_exist_ok=True)
    done = team.run("-m", "flows", "training")
    assert done.returncode == 0, done.stderr
    team.world.commit("Trained")
    for verb in ("publish", "gate"):
        said = team.mlops(verb)
        assert said.returncode == 0, said.stderr
    _pin(team)
    team.world.git("push", "--quiet", "origin", "main")
    _link_environment(team)
    for environment in ("staging", "production"):
        # Where the service keeps what it was asked; nobody asked yet.
        (team.desk / ".run/local" / environment / "samples").mkdir(parents=True)
    said = team.run("-m", "flows", "deploy")
    assert said.returncode == 0, said.stderr


def _remote(team: Team) -> None:
    """DVC's remote is the stack's store; the key is in the environment alone."""
    config = team.desk / ".dvc/config"
    config.write_text(
        config.read_text()
        + "    remote = store\n['remote \"store\"']\n    url = azure://dvc/flights\n"
    )
    team.world.commit("A remote")


def _pin(team: Team) -> None:
    code = (
        "from pathlib import Path; from mlops.contract import params;"
        "from mlops.gitops import manifest;"
        "from mlops.gitops.pin import of_workspace; root = Path();"
        "pin = of_workspace(root);"
        "[f.write_text(manifest.with_pin(f.read_text(), pin)) "
        "for f in map(manifest.path, ('staging', 'production'))]"
    )
    done = team.run("-c", code)
    assert done.returncode == 0, done.stderr
    team.world.commit("Pinned")


def _link_environment(team: Team) -> None:
    """The environment of this lock is here already: this one."""
    from flows import checkout

    content = b"".join((team.desk / name).read_bytes() for name in checkout.LOCKS)
    place = team.desk / ".run/worker" / checkout.environment_of(content)
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to(Path(sys.prefix))
