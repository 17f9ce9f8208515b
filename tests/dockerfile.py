"""A Dockerfile's steps without Docker: what it copies, runs and starts, below a folder."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

# An absolute path's first slash, wherever in a command it stands.
ABSOLUTE = re.compile(r"(?<![\w./@%$}-])/(?=\w)")
# Whoever runs the tests as root does not run the image's steps as root.
NOBODY = {"user": 65534, "group": 65534, "extra_groups": []} if os.geteuid() == 0 else {}


@dataclass(frozen=True)
class Step:
    """One instruction: its word and what follows."""

    word: str
    rest: str


def steps(file: Path) -> list[Step]:
    """The instructions of a Dockerfile."""
    lines = [line for line in file.read_text().splitlines() if not line.startswith("#")]
    joined = re.sub(r"\\\n", "", "\n".join(lines))
    return [Step(*line.split(maxsplit=1)) for line in joined.splitlines() if line.strip()]


def context(repository: Path, names: list[str]) -> set[str]:
    """Those of `names` that .dockerignore lets through."""
    rules = (repository / ".dockerignore").read_text().splitlines()
    rules = [rule for rule in rules if rule and not rule.startswith("#")]
    return {name for name in names if _sent(name, rules)}


def _sent(name: str, rules: list[str]) -> bool:
    sent = True
    for rule in rules:
        pattern = rule.removeprefix("!")
        same_depth = pattern.count("/") == name.count("/")
        if pattern == "*" or (same_depth and fnmatchcase(name, pattern)):
            sent = rule.startswith("!")
    return sent


@dataclass
class Build:
    """The steps of a Dockerfile, done below `root` as if that were the file system."""

    repository: Path
    root: Path
    sent: set[str]
    folder: str = "/"
    environment: dict[str, str] = field(default_factory=dict)
    arguments: dict[str, str] = field(default_factory=dict)

    def do(self, step: Step) -> None:
        """One step; raises CalledProcessError when a command of it fails."""
        if step.word == "RUN":
            self.run(["sh", "-c", self.below(step.rest)], {**self.arguments, "PATH": self.path})
        elif step.word == "COPY" and "--from=" not in step.rest:
            self._copy(*shlex.split(step.rest))
        elif step.word == "WORKDIR":
            self.folder = step.rest
            self.own(self.place(step.rest))
        elif step.word == "ENV":
            for pair in shlex.split(step.rest):
                name, _, value = pair.partition("=")
                self.environment[name] = self.below(value).replace("${PATH}", self.path)

    def run(
        self, command: list[str], environment: dict[str, str], **options: object
    ) -> subprocess.CompletedProcess[str]:
        """A command with this environment and no other, not as root."""
        return subprocess.run(
            command, env=environment, cwd=self.place(self.folder), capture_output=True, text=True,
            check=True, **NOBODY, **options,
        )  # fmt: skip

    def below(self, text: str) -> str:
        """The same words, every absolute path below the root."""
        return ABSOLUTE.sub(f"{self.root}/", text)

    @property
    def path(self) -> str:
        """The base's own search path, and the few programs of the system that a shell needs."""
        return f"{self.root}/usr/local/bin:/usr/bin:/bin"

    def place(self, path: str) -> Path:
        return self.root / path.lstrip("/")

    def _copy(self, *words: str) -> None:
        *sources, target = words
        to = self.place(os.path.join(self.folder, target))
        self.own(to)
        for source in sources:
            names = [name for name in self.sent if name == source or name.startswith(source)]
            assert names, f"COPY {source}: nothing of that name is sent"
            for name in names:
                shutil.copy(self.repository / name, to)

    def own(self, folder: Path) -> None:
        """Make a folder that whoever runs the steps may write in."""
        folder.mkdir(parents=True, exist_ok=True)
        if NOBODY:
            for made in (folder, *folder.parents):
                if made.is_relative_to(self.root):
                    os.chown(made, 65534, 65534)


def listed(rest: str) -> list[str]:
    """The words of an instruction in the form that no shell reads."""
    words: list[str] = json.loads(rest)
    return words
