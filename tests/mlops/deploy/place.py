"""An endpoint on this machine, with bundles to deploy there."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

from mlops.deploy import local
from mlops.deploy.local import control
from mlops.deploy.local.home import SAMPLES, Home, Process
from mlops.deploy.manifest import Rollout
from mlops.deploy.rollout import roll_out
from mlops.deploy.target import NO_MIRROR, Endpoint, Running
from mlops.registry.pin import Pin
from tests.mlops.deploy import small
from tests.mlops.deploy.load import Load


class Place:
    """A repository's folder with one environment, and bundles by their slopes."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.root = base / "repository"
        self.root.mkdir()
        # An endpoint of another name has another port: tests run side by side.
        self.endpoint = Endpoint("staging", f"small-{uuid4().hex[:8]}", self.root)
        self.home = Home(self.root, "staging")
        self.folders: dict[str, Path] = {}
        self.expected: dict[str, list[float]] = {}

    def bundle(self, slope: float, make: Callable[[Path, float], str] = small.sound) -> str:
        """Make one; its digest."""
        folder = self.base / f"bundle-{len(self.folders)}"
        digest = make(folder, slope)
        self.folders[digest] = folder
        self.expected[digest] = small.scores(slope)
        return digest

    def pin(self, digest: str) -> Pin:
        return small.pin(digest, list(self.folders).index(digest) + 1)

    def deploy(self, *slopes: float, make: Callable[[Path, float], str] = small.sound) -> list[str]:
        """Make bundles and deploy them, one after the other; their digests."""
        return [self.deploy_again(self.bundle(slope, make)) for slope in slopes]

    def deploy_again(self, digest: str) -> str:
        local.deploy(self.endpoint, self.pin(digest), self.folders[digest])
        return digest

    def traffic(self, *shares: tuple[str, int], mirror: Mapping[str, int] = NO_MIRROR) -> None:
        local.traffic(self.endpoint, dict(shares), mirror)

    def roll_out(self, digest: str, rollout: Rollout) -> Iterator[str]:
        return roll_out(local, self.endpoint, self.pin(digest), self.folders[digest], rollout)

    def load(self, rows: list[Any] = small.ROWS, clients: int = 4) -> Load:
        """Clients of the endpoint, for a block."""
        return Load(self.url, rows, self.expected, clients)

    def processes(self) -> dict[str, Process]:
        """The scoring processes, by digest."""
        report = control.status(self.home)
        return report.bundles if report else {}

    def kill(self, digest: str) -> int:
        """Kill a bundle's process; its number."""
        pid = self.processes()[digest].pid
        os.kill(pid, signal.SIGKILL)
        return pid

    @property
    def supervisor(self) -> int:
        """The supervisor's number."""
        address = self.home.address()
        assert address is not None
        return address.pid

    @property
    def url(self) -> str:
        return self.current.address

    @property
    def current(self) -> Running:
        return local.current(self.endpoint)

    @property
    def copies(self) -> list[str]:
        """The digests of the bundles that are kept there."""
        folders = (path for path in self.home.folder.iterdir() if path.is_dir())
        return [folder.name for folder in folders if folder.name != SAMPLES]
