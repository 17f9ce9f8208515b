"""A repository without a forge, where proposals are merged as soon as the gate accepts."""

from __future__ import annotations

import datetime as dt
import os
import shutil
from collections.abc import Iterator
from contextlib import chdir, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlops.base.errors import Refused, UserError
from mlops.contract import params
from mlops.contract.paths import BUNDLE
from mlops.contract.stages import MADE_BY_DVC
from mlops.deploy import manifest
from mlops.forge import git
from mlops.forge.protocol import DryRun
from mlops.gitops import gate, release, retrain
from mlops.pipeline import reproduction
from mlops.registry import register, store

ENVIRONMENT = "production"
# Without a remote, a proposal is a branch: nothing is sent.
FORGE = DryRun("a simulation")


@dataclass(frozen=True)
class Team:
    """A repository in `base`, with the log of its stages."""

    base: Path

    @property
    def root(self) -> Path:
        return self.base / "repository"

    def params(self) -> Any:
        """The parameters in the repository."""
        return params.load_all(self.root)

    def copy(self, base: Path) -> Team:
        """A copy of this team."""
        shutil.copytree(self.base, base, symlinks=True)
        return Team(base)

    def bundle(self) -> tuple[str, Path]:
        """The digest that production pins, and the folder of the verified bundle."""
        pin = manifest.load(self.root, ENVIRONMENT).pin
        if pin is None:
            raise UserError(f"{manifest.path(ENVIRONMENT)}: pins nothing")
        return pin.digest, store.fetch(pin, self.root) / BUNDLE

    def retrain(self, until: dt.date, because: str) -> bool:
        """Train on data until a day; merge and release if the gate accepts. Whether it did."""
        with self._logged():
            try:
                retrain.run(self.root, until, because, FORGE)
            except Refused:
                return False
            self._merge(retrain.BRANCH)
        self.release()
        return True

    def release(self) -> None:
        """Train (from the cache if possible), judge, register and pin what main says."""
        with self._logged(), chdir(self.root):
            with reproduction.alone(Path()):
                for stage in MADE_BY_DVC:
                    reproduction.reproduce(stage, Path())
            settings = params.load_all()
            register.run(settings, Path())
            gate.run(settings, Path(), git.base(Path()))
            release.release(Path(), ENVIRONMENT, FORGE)
        self._merge(f"release/{ENVIRONMENT}")

    def _merge(self, branch: str) -> None:
        """Merge a branch, where it was proposed; its one commit is on top of main."""
        if git.exists(self.root, branch):
            # The lock may have been rewritten meanwhile.
            git.git(self.root, "reset", "--quiet", "--hard", branch)
            git.git(self.root, "branch", "--quiet", "--delete", branch)

    @contextmanager
    def _logged(self) -> Iterator[None]:
        """Send the output of stages, in this process and its children, to the log."""
        saved = os.dup(1), os.dup(2)
        with (self.base / "log").open("ab") as log:
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
        try:
            yield
        finally:
            for number, copy in enumerate(saved, start=1):
                os.dup2(copy, number)
                os.close(copy)
