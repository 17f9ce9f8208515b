"""Where the bundle in use lies: a folder, or a file that names one and may name another later."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from mlops.base.errors import UserError
from mlops.contract import bundle

Stamp = tuple[int, int, int]
# Bytes of the longest name.
NAME = 1024


@dataclass
class Place:
    """A bundle's folder; or a file with the name of a folder beside it, looked at again and again.

    `interval` is how often, in seconds; `version` is what the registry calls the bundle.
    """

    path: Path
    version: str = ""
    interval: float = 1.0
    _seen: Stamp | None = field(default=None, init=False)

    def find(self) -> Path:
        """The bundle's folder now; raises UserError when there is none."""
        self._seen = self._stamp()
        folder = self.path
        try:
            if folder.is_file():
                folder = folder.parent / _name(folder)
            if (folder / bundle.CARD).is_file():
                return folder
        except OSError as error:
            raise UserError(f"{error.filename}: {error.strerror}") from None
        raise UserError(f"{folder}: found no {bundle.CARD}, expected a bundle's folder")

    def changed(self) -> Path | None:
        """The bundle's folder, when it is another one than at the last look."""
        return self.find() if self._stamp() != self._seen else None

    def _stamp(self) -> Stamp | None:
        place = self.path / bundle.CARD if self.path.is_dir() else self.path
        try:
            found = os.stat(place)
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns, found.st_size


def _name(file: Path) -> str:
    """What a file names: one line that could be a folder's name."""
    with file.open("rb") as content:
        said = content.read(NAME + 1).decode(errors="replace").strip()
    if not said or len(said) > NAME or not said.isprintable():
        raise UserError(f"{file}: expected one line with the name of a bundle's folder")
    return said
