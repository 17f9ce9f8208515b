"""A repository and its bare remote, in which proposals are merged as soon as the gate allows."""

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
class Desk:
    """Where pull requests arrive: a forge that only notes them."""

    opened: list[str] = field(default_factory=list)

    def pull_request(self, branch: str, base: str, title: str, body: str) -> str:
        self.opened.append(branch)
        return branch

    def status(self, commit: str, state: str, context: str, text: str) -> None:
        """Nobody looks at it here: who merges asks the gate's own answer."""

    def comment(self, pull_request: int, body: str, key: str) -> str:
        raise NotImplementedError

    def number(self, head: str | None) -> int | None:
        return None


@dataclass
class Team:
    """A clone in `base`, its remote beside it; what its children print goes to a log there."""

    base: Path
    desk: Desk = field(default_factory=Desk)

    @property
    def root(self) -> Path:
        return self.base / "repository"

    def params(self) -> Any:
        """The parameters of main."""
        return params.load_all(self.root)

    def copy(self, base: Path) -> Team:
        """Another team that begins where this one is."""
        shutil.copytree(self.base, base, symlinks=True)
        git.git(base / "repository", "remote", "set-url", "origin", str(base / "origin.git"))
        return Team(base)

    def bundle(self) -> tuple[str, Path]:
        """The digest of what production pins, and the folder with its verified bytes."""
        pin = manifest.load(self.root, ENVIRONMENT).pin
        if pin is None:
            raise UserError(f"{manifest.path(ENVIRONMENT)}: pins nothing")
        return pin.digest, store.fetch(pin, self.root) / BUNDLE

    def retrain(self, until: dt.date, because: str) -> bool:
        """Train on data until a day; merge and release what the gate accepts. Whether it did."""
        with self._logged():
            try:
                retrain.run(self.root, until, because, self.desk)
            except Refused:
                return False
            self._merge(retrain.BRANCH)
        self.release()
        return True

    def release(self) -> None:
        """Train, judge and register what main says, from the cache where it can be; pin it."""
        with self._logged(), chdir(self.root):
            with reproduction.alone(Path()):
                for stage in MADE_BY_DVC:
                    reproduction.reproduce(stage, Path())
            knobs = params.load_all()
            register.ensure(knobs, Path())
            gate.run(knobs, Path(), git.base(Path()))
            promotion.release(Path(), ENVIRONMENT, self.desk)
        self._merge(f"release/{ENVIRONMENT}")

    def _merge(self, branch: str) -> None:
        """What a click on the pull request does; its one commit stands on main's tip."""
        if branch not in self.desk.opened:
            return
        self.desk.opened.remove(branch)
        main = git.main_branch(self.root)
        git.git(self.root, "fetch", "--quiet", git.REMOTE, branch)
        git.git(self.root, "push", "--quiet", git.REMOTE, f"FETCH_HEAD:{main}", f":{branch}")
        git.git(self.root, "reset", "--quiet", "--hard", git.tip(self.root))

    @contextmanager
    def _logged(self) -> Iterator[None]:
        """Keep what stages print, in this process and in others, off the screen."""
        kept = {number: os.dup(number) for number in (1, 2)}
        with (self.base / "log").open("ab") as log:
            for number in kept:
                os.dup2(log.fileno(), number)
            try:
                yield
            finally:
                for number, copy in kept.items():
                    os.dup2(copy, number)
                    os.close(copy)
