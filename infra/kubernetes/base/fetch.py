"""Fetch a bundle from DVC's remote by DVC's name of its content, and verify every byte of it.

    BUNDLE_STORE=https://… BUNDLE_CONTENT=….dir BUNDLE_DIGEST=… python fetch.py FOLDER

The remote is read over HTTP; BUNDLE_QUERY, such as a signature, is the query of each request. Needs
nothing but Python. The files are removed again unless their digest is the expected one: the SHA-256
over the sorted `digest  name` lines of the files.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import urllib.request
from http.client import HTTPException
from pathlib import Path, PurePosixPath
from typing import Any

SECONDS = 30


def main() -> None:
    """Exit with a line, and an empty folder, when the bundle can't be fetched or is another."""
    folder, expected = Path(sys.argv[1]), os.environ["BUNDLE_DIGEST"]
    clear(folder)
    try:
        fetch(os.environ["BUNDLE_CONTENT"], folder)
        found = digest(folder)
    except (OSError, HTTPException, ValueError, KeyError, TypeError) as error:
        clear(folder)
        # A URL in the message may contain the signature.
        sys.exit(f"bundle {expected[:12]}: {type(error).__name__}: {hidden(str(error))}")
    if found != expected:
        clear(folder)
        sys.exit(f"bundle {expected[:12]}: found digest {found[:12]}")
    print(f"bundle {expected[:12]}: fetched and verified")


def fetch(content: str, folder: Path) -> None:
    """Write every file of the folder that DVC keeps under this name; none is held in memory."""
    with opened(content) as response:
        files = json.load(response)
    for file in files:
        place = PurePosixPath(file["relpath"])
        if place.is_absolute() or ".." in place.parts:
            raise ValueError(f"{place}: leads out of the bundle")
        target = folder / place
        target.parent.mkdir(parents=True, exist_ok=True)
        with opened(file["md5"]) as response, target.open("wb") as copy:
            shutil.copyfileobj(response, copy)


def opened(name: str) -> Any:
    """A response with the bytes that DVC keeps under a name."""
    query = os.environ.get("BUNDLE_QUERY", "").lstrip("?")
    url = f"{os.environ['BUNDLE_STORE'].rstrip('/')}/files/md5/{name[:2]}/{name[2:]}"
    return urllib.request.urlopen(f"{url}?{query}" if query else url, timeout=SECONDS)


def digest(folder: Path) -> str:
    """A folder's digest, computed as the bundle's own."""
    files = {}
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
            files[path.relative_to(folder).as_posix()] = found
    lines = "".join(f"{files[name]}  {name}\n" for name in sorted(files))
    return hashlib.sha256(lines.encode()).hexdigest()


def clear(folder: Path) -> None:
    """Empty the folder; it may be a mounted volume, and stays."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def hidden(text: str) -> str:
    """The text without the query of the requests."""
    query = os.environ.get("BUNDLE_QUERY", "").lstrip("?")
    return text.replace(query, "***") if query else text


if __name__ == "__main__":
    main()
