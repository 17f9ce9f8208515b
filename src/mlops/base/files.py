"""Write files and folders whole or not at all, and compute their digests."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from mlops.base.errors import UserError

# What programs leave in folders.
OF_SYSTEM = r"(.*/)?(\..+|Thumbs\.db|desktop\.ini)"


@contextmanager
def whole_file(target: Path, mode: int = 0o644) -> Iterator[Path]:
    """Yield a path to write to; it takes the place of `target` only when the block ends well.

    A block that raises, or a process that is killed, leaves `target` as it was. Two processes that
    may write the same file at once must hold a lock, such as `alone`.
    """
    partial = target.with_name(f".{target.name}.part")
    try:
        partial.unlink(missing_ok=True)
        os.close(os.open(partial, os.O_WRONLY | os.O_CREAT, mode))
        yield partial
        partial.replace(target)
    except OSError as error:
        if error.filename in (None, str(partial), partial):
            error.filename = str(target)
        raise
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def whole_folder(target: Path, written: str = "") -> Iterator[Path]:
    """Yield a folder to write in; it takes the place of `target` only when the block ends well.

    A block that raises, or a process that is stopped, leaves `target` as it was. Of two processes
    that write at once, one waits for the other. With `written`, other files there are refused, as
    `require_own` does it.
    """
    if written:
        require_own(target, written)
    target.parent.mkdir(parents=True, exist_ok=True)
    with alone(target.parent), _exit_on_sigterm():
        prefix = f".{target.name}.part-"
        partial = Path(tempfile.mkdtemp(prefix=prefix, dir=target.parent))
        partial.chmod(0o755)
        try:
            yield partial
            _swap(partial, target)
            # The old folder, and what killed processes left: the lock excludes other writers.
            for leftover in target.parent.glob(f"{prefix}*"):
                shutil.rmtree(leftover, ignore_errors=True)
        except OSError as error:
            error.filename = error.filename or str(target)
            raise
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def require_own(folder: Path, written: str) -> None:
    """Raise UserError for a file whose name in the folder does not match a regular expression."""
    for path in foreign(folder, written):
        raise UserError(
            f"{path}: found a file that is none of the results here and would be removed; "
            "move it to another folder"
        )


def foreign(folder: Path, written: str) -> Iterator[Path]:
    """The files whose names in the folder match neither `written` nor what systems leave."""
    for path, name in files_in(folder):
        if not re.fullmatch(f"{written}|{OF_SYSTEM}", name):
            yield path


def files_in(folder: Path) -> Iterator[tuple[Path, str]]:
    """All files of a folder, each with its name there."""
    for path in sorted([folder, *folder.rglob("*")]):
        if path.is_symlink() or path.is_file():
            yield path, path.relative_to(folder).as_posix()


def _swap(partial: Path, target: Path) -> None:
    """Rename twice: the old folder is deleted only once the new one has its name."""
    old = partial.with_name(f"{partial.name}-old")
    try:
        if target.exists():
            target.rename(old)
        partial.rename(target)
    except BaseException:  # A signal too may arrive between the two.
        if old.exists() and not target.exists():
            old.rename(target)
        raise


@contextmanager
def alone(folder: Path) -> Iterator[int]:
    """Hold the folder's lock, waiting for it; the lock ends with its process.

    Yields the lock's file descriptor: a process that inherits it holds the lock too.
    """
    lock = os.open(folder, os.O_RDONLY)
    try:
        # Some network file systems have no locks: better to write there than to refuse.
        with suppress(OSError):
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield lock
    finally:
        os.close(lock)


@contextmanager
def _exit_on_sigterm() -> Iterator[None]:
    """Turn SIGTERM into an exception, so that a stopped process removes its partial folder."""

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
    """Write a whole file of JSON with sorted keys, so that equal content is equal bytes."""
    text = json.dumps(content, indent=2, sort_keys=True, allow_nan=False) + "\n"
    with whole_file(path) as partial:
        partial.write_text(text)


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
