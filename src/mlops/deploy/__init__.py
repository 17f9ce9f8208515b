"""Where bundles run: one file per kind of target, each with `deploy`, `current` and `remove`."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from mlops.deploy import local


class Target(Protocol):
    """One kind of place that runs a bundle. Every call may be repeated."""

    def deploy(self, environment: str, bundle: Path, root: Path) -> None:
        """Run these bytes; raises UserError, and leaves what runs, when they fail their test."""

    def current(self, environment: str, root: Path) -> str | None:
        """The digest of the bytes that run, read from them; None when nothing runs."""

    def remove(self, environment: str, root: Path) -> None:
        """Run nothing."""


TARGETS: dict[str, Target] = {"local": local}
