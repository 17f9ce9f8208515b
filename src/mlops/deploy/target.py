"""What every kind of target can do: a module of `mlops.deploy` with these functions.

A target knows bundles by their digest, and moves shares of an endpoint's requests between them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from mlops.gitops.manifest import Pin

NO_MIRROR: Mapping[str, int] = MappingProxyType({})


@dataclass(frozen=True)
class Endpoint:
    """What a manifest says of one place: its environment, its name there, and the repository."""

    environment: str
    name: str
    root: Path


@dataclass(frozen=True)
class Running:
    """What the world says.

    `traffic` is the percentage of the requests that each deployed bundle answers, by its digest in
    64 hex digits, those with 0 too; `note` says why the last rollout was undone, if it was.
    """

    traffic: Mapping[str, int]
    note: str = ""


@dataclass(frozen=True)
class Health:
    """One bundle's answers since it was deployed.

    `errors` were answered with 500 and above, or not at all; `seconds` is the 95th percentile of
    the time they took; `scores` counts rows by the tenth of the first output that they fell into,
    and is empty for a regression.
    """

    requests: int
    errors: int
    seconds: float
    scores: tuple[int, ...] = ()


class Target(Protocol):
    """One kind of place that runs bundles. Every call may be repeated, and interrupted."""

    def deploy(self, endpoint: Endpoint, pin: Pin, bundle: Path) -> None:
        """Run a bundle beside what runs, tested, with 0 % of the traffic; 100 % when it is alone.

        Raises UserError, and leaves what runs, when the bundle fails its test.
        """

    def traffic(
        self, endpoint: Endpoint, shares: Mapping[str, int], mirror: Mapping[str, int] = NO_MIRROR
    ) -> None:
        """Give each digest its percentage; `mirror` is of requests copied, the answers unserved."""

    def health(self, endpoint: Endpoint, digest: str) -> Health:
        """How one bundle's requests went since it was deployed."""

    def current(self, endpoint: Endpoint) -> Running:
        """What is deployed, each digest computed from the bytes or from what the place proves."""

    def remove(self, endpoint: Endpoint, digest: str) -> None:
        """Run this one no more; the last one removes the endpoint."""

    def note(self, endpoint: Endpoint, text: str) -> None:
        """Keep a line with the endpoint, "" for none."""
