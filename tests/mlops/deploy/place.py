"""An endpoint on this machine, with bundles to deploy there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

from mlops.deploy import local
from mlops.deploy.local.home import SAMPLES, Home
from mlops.deploy.target import Endpoint, Running
from mlops.registry.pin import Pin
from tests.mlops.deploy import bundles


class Place:
    """A repository's folder with one environment, and bundles by their slopes."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.root = base / "repository"
        self.root.mkdir()
        # An endpoint of another name has another port: tests run side by side.
        self.endpoint = Endpoint("staging", f"small-{uuid4().hex[:8]}", self.root)
        self.home = Home(self.root, "staging")
        self.versions: dict[str, int] = {}
        self.folders: dict[str, Path] = {}
        self.expected: dict[str, list[float]] = {}

    def bundle(self, slope: float, make: Callable[[Path, float], str] = bundles.sound) -> str:
        """Make one; its digest."""
        folder = self.base / f"bundle-{len(self.folders)}"
        digest = make(folder, slope)
        self.folders[digest] = folder
        self.versions[digest] = len(self.folders)
        self.expected[digest] = bundles.says(slope)
        return digest

    def pin(self, digest: str) -> Pin:
        return bundles.pin(digest, self.versions[digest])

    def deploy(self, digest: str) -> str:
        local.deploy(self.endpoint, self.pin(digest), self.folders[digest])
        return digest

    @property
    def url(self) -> str:
        return self.current.address

    @property
    def current(self) -> Running:
        return local.current(self.endpoint)

    @property
    def placed(self) -> list[str]:
        """The digests of the bundles that lie there."""
        folders = (path for path in self.home.folder.iterdir() if path.is_dir())
        return [folder.name for folder in folders if folder.name != SAMPLES]
