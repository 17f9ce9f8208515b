"""A copy of this repository's working tree in a temporary folder, to measure in.

Nothing of yours is touched: data, models, caches, tracking, servers and configuration are the
copy's own, and are gone when the measurement is over.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from benchmarks import process
from benchmarks.process import Ended
from tests import settings
from tests.repository_copy import copied

REPOSITORY = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
DVC_CONFIG = "[core]\n    analytics = false\n    check_update = false\n"
DVC_FOLDERS = ("GLOBAL_CONFIG", "SYSTEM_CONFIG", "SITE_CACHE")
AUTHOR = ("-c", "user.name=benchmark", "-c", "user.email=benchmark@localhost")
# What may point to servers, caches or code outside the copy.
OTHERS = ("MLFLOW_", "PREFECT_", "DVC_", "SPARK_", "GIT_", "PYTHON")


@dataclass(frozen=True)
class Workspace:
    """A repository in a folder of its own; `variables` are more of its environment."""

    root: Path
    variables: Mapping[str, str] = field(default_factory=dict)

    def change(self, changes: Mapping[str, Any]) -> None:
        """Set keys of params.yaml by their dotted names."""
        settings.change(self.root, changes)

    def module(self, name: str, *words: str, watched: bool = False) -> Ended:
        """Run `python -m name ...` on the copy's code, whole process."""
        command = [sys.executable, "-m", name, *words]
        return process.run(command, self.root, self.environment, watched=watched)

    def mlops(self, *words: str, watched: bool = False) -> Ended:
        """Run one of the project's verbs, whole process."""
        return process.run(
            [str(BIN / "mlops"), *words], self.root, self.environment, watched=watched
        )

    def git(self, *words: str) -> None:
        """Run Git as an author of its own."""
        process.run(["git", *AUTHOR, *words], self.root, self.environment)

    @property
    def environment(self) -> dict[str, str]:
        """This process's environment without what points outside the copy."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith(OTHERS)}
        return {
            **kept,
            "PATH": os.pathsep.join([str(BIN), os.environ.get("PATH", "")]),
            # Before the editable install, which is the repository's own code.
            "PYTHONPATH": str(self.root / "src"),
            **{f"DVC_{name}_DIR": str(self.root.parent / f"dvc-{name}") for name in DVC_FOLDERS},
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_CONFIG_NOSYSTEM": "1",
            **self.variables,
        }


@contextmanager
def workspace(changes: Mapping[str, Any] = MappingProxyType({})) -> Iterator[Workspace]:
    """A fresh copy with empty caches, its parameters changed; removed at the end."""
    with tempfile.TemporaryDirectory(prefix="mlops-bench-") as folder:
        made = Workspace(Path(folder) / "repository")
        copied(made.root)
        # A remote of yours would hand out what is to be made here.
        (made.root / ".dvc/config").write_text(DVC_CONFIG)
        made.change(changes)
        for words in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "benchmark"]):
            made.git(*words)
        yield made


@contextmanager
def serving(place: Workspace) -> Iterator[None]:
    """Keep the servers of `mlops up` running on the workspace's data."""
    place.mlops("up")
    try:
        yield
    finally:
        place.mlops("down")
