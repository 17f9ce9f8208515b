"""Files that are either whole or not there, and their digests."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any


@contextmanager
def whole_folder(target: Path) -> Iterator[Path]:
    """Yield a folder to write in; it takes the place of `target` only when the block ends well.

    A block that raises, or a process that is stopped, leaves `target` as it was. Of two that
    write at once, one waits for the other.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with alone(target.parent), _stop_raises():
        aside = Path(tempfile.mkdtemp(prefix=_prefix(target), dir=target.parent))
        aside.chmod(0o755)
        try:
            yield aside
            _swap(aside, target)
        finally:
            shutil.rmtree(aside, ignore_errors=True)


def _prefix(target: Path) -> str:
    return f".{target.name}.part-"


def _swap(aside: Path, target: Path) -> None:
    """Rename twice: the old folder goes only once the new one has its name."""
    old = aside.with_name(aside.name + "-old")
    try:
        if target.exists():
            target.rename(old)
        aside.rename(target)
    except BaseException:  # A signal too may arrive between the two.
        if old.exists() and not target.exists():
            old.rename(target)
        raise
    # The old folder, and what killed runs left behind: nobody else writes here now.
    for left in target.parent.glob(_prefix(target) + "*"):
        shutil.rmtree(left, ignore_errors=True)


@contextmanager
def alone(folder: Path) -> Iterator[int]:
    """Wait until no other process is alone in the folder; the lock dies with its process.

    Yields the lock's file descriptor: a process that inherits it holds the lock too.
    """
    place = os.open(folder, os.O_RDONLY)
    try:
        # Some network file systems know no locks: better to write there than to refuse.
        with suppress(OSError):
            fcntl.flock(place, fcntl.LOCK_EX)
        yield place
    finally:
        os.close(place)


@contextmanager
def _stop_raises() -> Iterator[None]:
    """Turn SIGTERM into an exception, so that a stopped process tidies up behind itself."""

    def stop(number: int, frame: object) -> None:
        raise SystemExit(128 + number)

    try:
        previous = signal.signal(signal.SIGTERM, stop)
    except ValueError:  # Only the main thread may set handlers.
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def write_json(path: Path, content: Any) -> None:
    """Write JSON with sorted keys, so that equal content is equal bytes."""
    path.write_text(json.dumps(content, indent=2, sort_keys=True, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read one JSON file."""
    return json.loads(path.read_text())


def sha256(path: Path) -> str:
    """The SHA-256 of one file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_of(parts: dict[str, str]) -> str:
    """The SHA-256 over sorted `digest  name` lines, as `sha256sum` prints them."""
    lines = "".join(f"{parts[name]}  {name}\n" for name in sorted(parts))
    return hashlib.sha256(lines.encode()).hexdigest()


def folder_digests(folder: Path) -> dict[str, str]:
    """The SHA-256 of every file under `folder`, by its path inside it."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): sha256(path) for path in files}


def folder_digest(folder: Path) -> str:
    """One SHA-256 for a folder's whole content."""
    return digest_of(folder_digests(folder))
