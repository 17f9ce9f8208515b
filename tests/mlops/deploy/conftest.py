"""An endpoint on this machine, which ends with its test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mlops.deploy import local
from mlops.deploy.home import Home
from mlops.deploy.target import Endpoint
from tests.mlops.deploy import bundles
from tests.mlops.deploy.processes import stop


class Place:
    """A repository's folder with one environment, and bundles by their slopes."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.root = base / "repository"
        self.root.mkdir()
        self.endpoint = Endpoint("staging", "small", self.root)
        self.home = Home(self.root, "staging")
        self.versions: dict[str, int] = {}
        self.folders: dict[str, Path] = {}
        self.expected: dict[str, list[float]] = {}

    def bundle(self, slope: float, make=bundles.sound) -> str:
        """Make one; its digest."""
        folder = self.base / f"bundle-{len(self.folders)}"
        digest = make(folder, slope)
        self.folders[digest] = folder
        self.versions[digest] = len(self.folders)
        self.expected[digest] = bundles.says(slope)
        return digest

    def pin(self, digest: str):
        return bundles.pin(digest, self.versions[digest])

    def deploy(self, digest: str) -> str:
        local.deploy(self.endpoint, self.pin(digest), self.folders[digest])
        return digest

    @property
    def url(self) -> str:
        return local.address("staging", self.root)

    @property
    def current(self):
        return local.current(self.endpoint)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path)
    yield made
    for root in tmp_path.iterdir():
        stop(root)
