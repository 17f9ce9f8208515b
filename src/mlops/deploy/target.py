"""What every kind of target can do: a module of `mlops.deploy` with these functions.

A target knows bundles by their digest, and moves shares of an endpoint's requests between them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from mlops.registry.pin import Pin

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
    64 hex digits, those with 0 too; `note` is what a rollout left there: why it was undone, or
    that it is under way. `answers` is "no" when what is deployed does not, and "elsewhere" when
    that is another machine's matter. `address` is where clients ask, "" where that is not known.
    """

    traffic: Mapping[str, int]
    note: str = ""
    answers: Literal["yes", "no", "elsewhere"] = "yes"
    address: str = field(default="", compare=False)


@dataclass(frozen=True)
class Health:
    """One bundle's answers since it was deployed.

    `errors` were answered with 500 and above, or not at all; `seconds` is the 95th percentile of
    the time they took; `scores` counts rows by the tenth of the first output that they fell into,
    and is empty for a regression. Of the mirrored requests `compared` were answered otherwise too,
    and `differing` of them with other numbers.
    """

    requests: int
    errors: int
    seconds: float
    scores: tuple[int, ...] = ()
    compared: int = 0
    differing: int = 0


@dataclass(frozen=True)
class Answer:
    """What one bundle said to rows that it was asked directly: its first output for each row.

    No scores: it failed, with 500 and above or not at all. `seconds` is how long it took.
    """

    seconds: float
    scores: tuple[float, ...] = ()


Row = Mapping[str, float | str | None]


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

    def ask(self, endpoint: Endpoint, digest: str, rows: Sequence[Row]) -> Answer:
        """Let this very bundle score rows, whatever its share; `health` need not count them."""

    def current(self, endpoint: Endpoint) -> Running:
        """What is deployed, each digest computed from the bytes or from what the place proves."""

    def remove(self, endpoint: Endpoint, digest: str) -> None:
        """Run this one no more; the last one removes the endpoint."""

    def note(self, endpoint: Endpoint, text: str) -> None:
        """Keep a line with the endpoint, "" for none."""
