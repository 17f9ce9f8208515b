"""A repository and its bare remote, where proposals are merged as soon as the gate accepts."""

from __future__ import annotations

import datetime as dt
import os
import shutil
from collections.abc import Iterator
from contextlib import chdir, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlops.base.errors import Refused, UserError
from mlops.contract import params
from mlops.contract.paths import BUNDLE
from mlops.contract.stages import MADE_BY_DVC
from mlops.deploy import manifest
from mlops.forge import git
from mlops.gitops import gate, promotion, retrain
from mlops.pipeline import reproduction
from mlops.registry import register, store

ENVIRONMENT = "production"


@dataclass
class RecordingForge:
    """A forge that only records which pull requests are opened."""

    opened: list[str] = field(default_factory=list)

    def pull_request(self, branch: str, base: str, title: str, body: str) -> str:
        self.opened.append(branch)
        return branch

    def status(self, commit: str, state: str, context: str, text: str) -> None:
        """Not needed: `Team.retrain` uses the gate's own result."""

    def comment(self, pull_request: int, body: str, key: str) -> str:
        raise NotImplementedError

    def number(self, head: str | None) -> int | None:
        return None


@dataclass
class Team:
    """A clone in `base`, with its remote and the log of its stages."""

    base: Path
    forge: RecordingForge = field(default_factory=RecordingForge)

    @property
    def root(self) -> Path:
        return self.base / "repository"

    def params(self) -> Any:
        """The parameters in the clone."""
        return params.load_all(self.root)

    def copy(self, base: Path) -> Team:
        """A copy of this team."""
        shutil.copytree(self.base, base, symlinks=True)
        git.git(base / "repository", "remote", "set-url", "origin", str(base / "origin.git"))
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
                retrain.run(self.root, until, because, self.forge)
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
            promotion.release(Path(), ENVIRONMENT, self.forge)
        self._merge(f"release/{ENVIRONMENT}")

    def _merge(self, branch: str) -> None:
        """Merge a pull request as a forge would; its one commit is on top of main."""
        if branch not in self.forge.opened:
            return
        self.forge.opened.remove(branch)
        main = git.main_branch(self.root)
        git.git(self.root, "fetch", "--quiet", "origin", branch)
        git.git(self.root, "push", "--quiet", "origin", f"FETCH_HEAD:{main}", f":{branch}")
        git.git(self.root, "reset", "--quiet", "--hard", git.tip(self.root))

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
