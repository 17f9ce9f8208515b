"""Register the deployments of `prefect.yaml` and the automations; safe to repeat."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.exceptions import ObjectNotFound
from prefect.workers.utilities import get_default_base_job_template_for_infrastructure_type

from flows import automations
from flows.check import FILE, deployments
from mlops.base import processes
from mlops.base.errors import UserError
from mlops.forge import git

ROOT = Path()


def run() -> None:
    """Register work pools, deployments and automations. Raises UserError when runs would fail."""
    listed = deployments()
    _require_commit()
    pools = {deployment["work_pool"]["name"] for deployment in listed}
    _print(lambda client: _pools(client, pools))
    processes.run([sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"], str(FILE))
    for deployment in listed:
        print(f"deployment {deployment['name']}")
    _print(automations.apply)


def _print(register: Callable[[PrefectClient], Awaitable[list[str]]]) -> None:
    """Print what a function with a client of the server has registered, a line each."""

    async def call() -> list[str]:
        async with get_client() as client:
            return await register(client)

    print("\n".join(asyncio.run(call())))


def _require_commit() -> None:
    """Require that the remote has the commit, since each run clones it."""
    head = git.commit(ROOT, "HEAD")
    if remote := git.remote(ROOT):
        git.git(ROOT, "fetch", "--quiet", remote)
        if not git.git(ROOT, "branch", "--remotes", "--contains", head).strip():
            raise UserError(f"{remote}: has no commit {head[:12]} yet; push it first")


async def _pools(client: PrefectClient, names: set[str]) -> list[str]:
    return [await _pool(client, name) for name in sorted(names)]


async def _pool(client: PrefectClient, name: str) -> str:
    """Create a work pool where it is missing; its name is its type."""
    try:
        await client.read_work_pool(name)
    except ObjectNotFound:
        template = await get_default_base_job_template_for_infrastructure_type(name)
        if template is None:
            raise UserError(f"{FILE}: work pool {name!r}: expected a type's name") from None
        await client.create_work_pool(
            WorkPoolCreate(name=name, type=name, base_job_template=template)
        )
        return f"work pool {name} made"
    return f"work pool {name}"
