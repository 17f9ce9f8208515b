"""Limits and folders of a service, and the command line that sets them."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from mlops.base.errors import UserError

TOKEN = "MLOPS_SERVING_TOKEN"


@dataclass(frozen=True)
class Settings:
    """Limits and folders of one service. Sizes are bytes, times are seconds.

    A request has `rows` at most, its body `body` bytes and `body_timeout` to arrive; `bodies` are
    the bytes of all bodies that are arriving. At most `connections` are open, `requests` under way,
    and `waiting` rows wait for a thread. A connection has `idle_timeout` for each request's head.
    Told to stop, the service is unready for `drain` and serves on. Of the requests a share of
    `sample_share` is kept in `samples`, in at most `sample_files` of `sample_bytes`.
    """

    rows: int = 10_000
    body: int = 16 * 1024 * 1024
    bodies: int = 256 * 1024 * 1024
    body_timeout: float = 30.0
    connections: int = 8192
    idle_timeout: float = 75.0
    requests: int = 1024
    waiting: int = 100_000
    drain: float = 0.0
    threads: int = 1
    sample_share: float = 1.0
    sample_bytes: int = 16 * 1024 * 1024
    sample_files: int = 8
    samples: Path | None = None
    token: str = ""


@dataclass(frozen=True)
class Options:
    """The command line, read."""

    bundle: str
    version: str
    host: str
    port: int
    workers: int
    settings: Settings


# What each option means, its least and its largest value.
LIMITS: dict[str, tuple[str, float, float | None]] = {
    "rows": ("most rows in a request", 1, None),
    "body": ("most bytes in a request", 1, None),
    "bodies": ("most bytes of all bodies that are arriving", 1, None),
    "body_timeout": ("seconds for a body to arrive", 0.1, None),
    "connections": ("most connections of a worker; others wait", 1, None),
    "idle_timeout": ("seconds for a request's head to arrive", 1, None),
    "requests": ("most requests under way", 1, None),
    "waiting": ("most rows that wait for a thread", 0, None),
    "drain": ("seconds to be unready, and to serve on, before the end", 0, None),
    "threads": ("threads of each run of the model", 1, None),
    "sample_share": ("share of the requests that is kept", 0, 1),
    "sample_bytes": ("bytes of a file of samples", 1, None),
    # The file that is being written, and the one before.
    "sample_files": ("files of samples", 2, None),
}


def parser() -> argparse.ArgumentParser:
    """The parser of the command line."""
    result = argparse.ArgumentParser(
        prog="mlops serve", description="Serve a bundle over HTTP.", allow_abbrev=False,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        epilog=f"The environment's {TOKEN} is the bearer token that clients must send.",
    )  # fmt: skip
    result.add_argument("bundle", help="a bundle's folder, a file that names one, or a model's URI")
    result.add_argument("--version", type=_version, default="", help="what the registry calls it")
    result.add_argument("--host", default="127.0.0.1", help="the address to listen on")
    result.add_argument("--port", type=int, default=8080)
    result.add_argument("--workers", type=_number(int, 1, None), default=1, help="processes")
    result.add_argument("--samples", type=Path, help="a folder for requests and their answers")
    for field in fields(Settings):
        if field.name in LIMITS:
            meaning, least, most = LIMITS[field.name]
            kind = _number(type(field.default), least, most)
            name = f"--{field.name.replace('_', '-')}"
            result.add_argument(name, type=kind, default=field.default, help=meaning)
    return result


def parse(arguments: Sequence[str], token: str) -> Options:
    """Read the command line; raises UserError for a token of blanks."""
    if token and not token.strip():
        raise UserError(f"{TOKEN}: found blanks, expected a token")
    given = vars(parser().parse_args(arguments))
    settings = {name: given.pop(name) for name in (*LIMITS, "samples")}
    return Options(**given, settings=Settings(**settings, token=token))


def _version(text: str) -> str:
    """What fits into a header of HTTP and into a path."""
    if not re.fullmatch(r"[\w.-]*", text, re.ASCII):
        raise argparse.ArgumentTypeError(f"found {text!r}, expected letters, digits, '.', '-', '_'")
    return text


def _number(kind: type[Any], least: float, most: float | None) -> Callable[[str], Any]:
    """A reader of numbers between two."""

    def number(text: str) -> Any:
        value = kind(text)
        if value < least or (most is not None and value > most):
            span = f"{least} or more" if most is None else f"{least} to {most}"
            raise argparse.ArgumentTypeError(f"found {text}, expected {span}")
        return value

    return number
