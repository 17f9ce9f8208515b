"""Carry out the steps of a Dockerfile without Docker, in a folder instead of a container."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import pathspec

# The first slash of an absolute path in a command.
ABSOLUTE = re.compile(r"(?<![\w./@%$}-])/(?=\w)")
# Even root's tests run the steps as this user: a path that ABSOLUTE misses can damage nothing.
UNPRIVILEGED = {"user": 65534, "group": 65534, "extra_groups": []} if os.geteuid() == 0 else {}


def steps(file: Path) -> list[tuple[str, str]]:
    """The instructions of a Dockerfile, each with its arguments."""
    lines = [line for line in file.read_text().splitlines() if not line.startswith("#")]
    joined = "\n".join(lines).replace("\\\n", "").splitlines()
    return [(line.split(maxsplit=1)[0], line.split(maxsplit=1)[1]) for line in joined if line]


def context(repository: Path) -> set[str]:
    """The repository's files that .dockerignore lets into a build."""
    ignored = pathspec.PathSpec.from_lines(
        "gitwildmatch", (repository / ".dockerignore").read_text().splitlines()
    )
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=repository, capture_output=True, text=True, check=True)
    names = [*listed.stdout.splitlines(), "models/bundle/model.onnx", ".env", ".git/config"]
    return {name for name in names if not ignored.match_file(name)}


@dataclass
class Build:
    """Steps carried out below `root`, with the files that `repository` sends to a build."""

    repository: Path
    root: Path
    folder: str = "/"
    environment: dict[str, str] = field(default_factory=dict)
    arguments: dict[str, str] = field(default_factory=dict)

    def do(self, instruction: str, rest: str) -> None:
        """Carry out one step; raises CalledProcessError when its command fails."""
        if instruction == "RUN":
            self.run(["sh", "-c", self.below(rest)], {**self.arguments, "PATH": self.path})
        elif instruction == "COPY" and "--from=" not in rest:
            *sources, target = shlex.split(rest)
            self._copy(sources, self._make(os.path.join(self.folder, target)))
        elif instruction == "WORKDIR":
            self.folder = rest
            self._make(rest)
        elif instruction == "ENV":
            for pair in shlex.split(rest):
                name, _, value = pair.partition("=")
                self.environment[name] = self.below(value).replace("${PATH}", self.path)

    def run(self, command: list[str], environment: dict[str, str]) -> str:
        """Run a command with this environment and no other; its output."""
        folder = self.root / self.folder.lstrip("/")
        return subprocess.run(
            command, env=environment, cwd=folder, check=True, capture_output=True, text=True,
            **UNPRIVILEGED,
        ).stdout  # fmt: skip

    def below(self, text: str) -> str:
        """The same text with every absolute path below the root."""
        return ABSOLUTE.sub(f"{self.root}/", text)

    @property
    def path(self) -> str:
        """The base image's PATH, and this machine's for what a shell needs."""
        return f"{self.root}/usr/local/bin:/usr/bin:/bin"

    def _copy(self, sources: list[str], target: Path) -> None:
        for source in sources:
            names = [name for name in context(self.repository) if name.startswith(source)]
            assert names, f"COPY {source}: .dockerignore leaves out all of it"
            for name in names:
                shutil.copy(self.repository / name, target)

    def _make(self, folder: str) -> Path:
        """Create a folder in which the steps can write."""
        place = self.root / folder.lstrip("/")
        place.mkdir(parents=True, exist_ok=True)
        if UNPRIVILEGED:
            subprocess.run(["chown", "-R", "65534:65534", self.root], check=True)
        return place
