"""A copy of this repository, which a test makes a project of its own."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]


def listed(*patterns: str) -> list[str]:
    """This repository's files as they are here, those not yet committed too."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", *patterns]
    out = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout
    return [name for name in out.split("\0") if (REPOSITORY / name).is_file()]


def copied(root: Path, without: re.Pattern[str] | None = None) -> None:
    """Copy them, but for those that a pattern matches."""
    for name in listed():
        if not (without and without.match(name)):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(REPOSITORY / name, root / name)


def rewrite(path: Path, pattern: str, replacement: str) -> None:
    text, count = re.subn(pattern, replacement, path.read_text(), flags=re.MULTILINE)
    assert count, f"{path}: no {pattern}"
    path.write_text(text)


def run(root: Path, *command: str) -> str:
    """Run a command there, in this environment; its output."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    env["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{env['PATH']}"
    env["PYTHONPATH"] = str(root / "src")
    done = subprocess.run(command, cwd=root, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, (done.stdout + done.stderr)[-20_000:]
    return done.stdout
