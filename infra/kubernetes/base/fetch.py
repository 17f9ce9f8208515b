"""Fetch a bundle from DVC's remote by the name of its content, and verify every byte of it.

    BUNDLE_STORE=https://… BUNDLE_CONTENT=….dir BUNDLE_DIGEST=… python fetch.py FOLDER

The remote is reached over HTTP, read only; BUNDLE_QUERY, such as a signature, is asked with each
file. Needs nothing but Python. What was fetched is removed again unless its digest is the one
that is wanted: the SHA-256 over the sorted `digest  name` lines of its files.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import urllib.request
from pathlib import Path, PurePosixPath

SECONDS = 30


def main() -> None:
    """Exits with a line, and an empty folder, when the bundle can't be had or is another."""
    folder = Path(sys.argv[1])
    wanted = os.environ["BUNDLE_DIGEST"]
    clear(folder)
    try:
        fetch(os.environ["BUNDLE_CONTENT"], folder)
        found = digest(folder)
    except (OSError, ValueError, KeyError, TypeError) as error:
        clear(folder)
        # An address may carry the signature.
        sys.exit(f"bundle {wanted[:12]}: {type(error).__name__}: {hidden(str(error))}")
    if found != wanted:
        clear(folder)
        sys.exit(f"bundle {wanted[:12]}: found digest {found[:12]}")
    print(f"bundle {wanted[:12]}: fetched and verified")


def fetch(content: str, folder: Path) -> None:
    """Write every file of a folder that DVC knows by its content."""
    for file in json.loads(read(content)):
        place = PurePosixPath(file["relpath"])
        if place.is_absolute() or ".." in place.parts:
            raise ValueError(f"{place}: leads out of the bundle")
        target = folder / place
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(read(file["md5"]))


def read(name: str) -> bytes:
    """The bytes that DVC keeps under a name."""
    query = os.environ.get("BUNDLE_QUERY", "").lstrip("?")
    url = f"{os.environ['BUNDLE_STORE'].rstrip('/')}/files/md5/{name[:2]}/{name[2:]}"
    with urllib.request.urlopen(f"{url}?{query}" if query else url, timeout=SECONDS) as answer:
        content: bytes = answer.read()
    return content


def digest(folder: Path) -> str:
    """A folder's digest, as the bundle's own."""
    files = {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }
    lines = "".join(f"{files[name]}  {name}\n" for name in sorted(files))
    return hashlib.sha256(lines.encode()).hexdigest()


def clear(folder: Path) -> None:
    """Leave nothing in the folder, which itself may be another's."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def hidden(text: str) -> str:
    """The text without what is asked with each file."""
    query = os.environ.get("BUNDLE_QUERY", "").lstrip("?")
    return text.replace(query, "***") if query else text


if __name__ == "__main__":
    main()
