"""Registers what `prefect.yaml` and `flows/automations.py` say; safe to repeat."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import yaml
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.exceptions import ObjectNotFound
from prefect.workers.utilities import get_default_base_job_template_for_infrastructure_type

from flows import automations
from mlops.base import processes
from mlops.base.errors import UserError
from mlops.forge import git

ROOT = Path()
FILE = ROOT / "prefect.yaml"


def run() -> None:
    """Work pools, deployments, automations. Raises UserError when nobody could run them."""
    deployments = yaml.safe_load(FILE.read_text())["deployments"]
    _require_commit()
    for line in asyncio.run(_pools({one["work_pool"]["name"] for one in deployments})):
        print(line)
    _deploy()
    for one in deployments:
        print(f"deployment {one['name']}")
    for line in asyncio.run(_automations()):
        print(line)


def _require_commit() -> None:
    """A run clones the commit: where it is cloned from must have it."""
    head = git.commit(ROOT, "HEAD")
    if git.has_remote(ROOT):
        git.git(ROOT, "fetch", "--quiet", git.REMOTE)
        if not git.git(ROOT, "branch", "--remotes", "--contains", head).strip():
            raise UserError(f"{git.REMOTE}: has no commit {head[:12]} yet; push it first")


async def _pools(names: set[str]) -> list[str]:
    async with get_client() as client:
        return [await _pool(client, name) for name in sorted(names)]


async def _pool(client: Any, name: str) -> str:
    """A pool is named for its type."""
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


def _deploy() -> None:
    command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"]
    processes.run(command, str(FILE), cwd=ROOT)


async def _automations() -> list[str]:
    async with get_client() as client:
        return await automations.apply(client)
