"""Limits and folders of a service, and the command line that sets them."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from mlops.base.errors import UserError

TOKEN = "MLOPS_SERVING_TOKEN"
# Where workers count together: prometheus_client reads it when it is imported.
COUNTERS = "PROMETHEUS_MULTIPROC_DIR"


def _option(default: Any, help: str, kind: Callable[[str], Any] = str) -> Any:
    """An option of the command line."""
    return field(default=default, metadata={"help": help, "type": kind})


def _limit(default: float, help: str, least: float = 1, most: float | None = None) -> Any:
    """An option that is a number between two."""
    return _option(default, help, _number(default, least, most))


def _number(default: float, least: float, most: float | None) -> Callable[[str], Any]:
    def number(text: str) -> Any:
        value = type(default)(text)
        if not least <= value <= (float("inf") if most is None else most):
            span = f"{least} or more" if most is None else f"{least} to {most}"
            raise argparse.ArgumentTypeError(f"found {text}, expected {span}")
        return value

    return number


def _version(text: str) -> str:
    """What fits into a header of HTTP and into a path."""
    if not re.fullmatch(r"[\w.-]*", text, re.ASCII):
        raise argparse.ArgumentTypeError(f"found {text!r}, expected letters, digits, '.', '-', '_'")
    return text


@dataclass(frozen=True)
class Settings:
    """A service's bundle, address and limits. Sizes are bytes, times are seconds."""

    bundle: str = ""
    version: str = _option("", "what the registry calls it", _version)
    host: str = _option("127.0.0.1", "the address to listen on")
    port: int = _option(8080, "the port to listen on", int)
    workers: int = _limit(1, "processes")
    rows: int = _limit(10_000, "most rows in a request")
    body: int = _limit(16 * 1024 * 1024, "most bytes in a request")
    bodies: int = _limit(256 * 1024 * 1024, "most bytes of all bodies that are arriving")
    body_timeout: float = _limit(30.0, "seconds for a body to arrive", 0.1)
    connections: int = _limit(8192, "most connections of a worker; others wait")
    idle_timeout: float = _limit(75.0, "seconds for a request's head to arrive")
    requests: int = _limit(1024, "most requests under way")
    waiting: int = _limit(100_000, "most rows that wait for a thread", 0)
    drain: float = _limit(1.0, "seconds to be unready, and to serve on, before the end", 0)
    threads: int = _limit(1, "threads of each run of the model")
    sample_share: float = _limit(1.0, "share of the requests that is kept", 0, 1)
    sample_bytes: int = _limit(16 * 1024 * 1024, "bytes of a file of samples")
    # The file that is being written, and the one before.
    sample_files: int = _limit(8, "files of samples", 2)
    samples: Path | None = None
    features: str | None = _option(None, "where features are published, for requests by key")
    store: str = _option("embedded", "the kind of place that is")
    stale_after: float = _limit(48.0, "hours after which published features are refused", 0)
    verify: bool = False
    signature: Path | None = None
    key: str | None = _option(None, "the public key of who must have signed; or else:")
    identity: str | None = _option(None, "who must have signed, as Sigstore certified it")
    issuer: str | None = _option(None, "who vouched for the identity")
    trust: str | None = _option(None, "a Sigstore trust configuration; by default the public one")
    token: str = ""


def parser() -> argparse.ArgumentParser:
    """The parser of the command line."""
    result = argparse.ArgumentParser(
        prog="mlops serve", description="Serve a bundle over HTTP.", allow_abbrev=False,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        epilog=f"The environment's {TOKEN} is the bearer token that clients must send.",
    )  # fmt: skip
    result.add_argument("bundle", help="a bundle's folder, a file that names one, or a model's URI")
    result.add_argument("--samples", type=Path, help="a folder for requests and their answers")
    result.add_argument("--signature", type=Path, help="the bundle's signature")
    result.add_argument("--verify", action="store_true", help="serve only what was signed")
    for option in fields(Settings):
        if option.metadata:
            name = f"--{option.name.replace('_', '-')}"
            result.add_argument(name, default=option.default, **option.metadata)
    return result


def parse(arguments: Sequence[str], token: str | None) -> Settings:
    """Read the command line; None stands for a token that is not set.

    Raises UserError for a token that no header can carry. A line break at its end, as files have
    it, is not part of it. So it does for a signer without `--verify`, and the other way round.
    """
    token = token if token is None else token.rstrip("\r\n")
    if token is not None and not re.fullmatch(r"[!-~]+", token):
        raise UserError(f"{TOKEN}: expected printable ASCII characters without blanks")
    settings = Settings(**vars(parser().parse_args(arguments)), token=token or "")
    signer = [bool(part) for part in (settings.key, settings.identity, settings.issuer)]
    named = signer in ([True, False, False], [False, True, True]) and settings.signature
    if not (named if settings.verify else not any((*signer, settings.signature, settings.trust))):
        raise UserError("--verify: expected --signature, and --key or --identity with --issuer")
    return settings
