"""The interface of every kind of target: a module of `mlops.deploy` with these functions.

A target names bundles by their digest, and divides an endpoint's requests between them. Its module
may list environment variables: `NEEDS`, without which it can do nothing, and `READS`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal, Protocol

from mlops.base.errors import UserError

if TYPE_CHECKING:
    from mlops.registry.pin import Pin

NO_MIRROR: Mapping[str, int] = MappingProxyType({})


@dataclass(frozen=True)
class Endpoint:
    """A manifest's endpoint: its environment, its name at the target, and the repository."""

    environment: str
    name: str
    root: Path

    def require_deployed(
        self, digests: Iterable[str], deployed: Collection[str], place: str
    ) -> None:
        """Raise UserError unless all of these bundles are deployed."""
        for digest in digests:
            if digest not in deployed:
                raise UserError(f"{self.name}: bundle {digest[:12]} is not deployed in {place}")

    def by_digest(
        self, shares: Mapping[str, int], digests: Mapping[str, str], place: str
    ) -> dict[str, int]:
        """Each bundle's share by its digest; UserError when something else answers requests.

        `shares` and `digests` are by the name of a deployment.
        """
        for name, share in shares.items():
            if share and name not in digests:
                raise UserError(
                    f"{self.name}: {name} answers requests in {place}, and belongs to no bundle; "
                    "take its traffic away"
                )
        return {digest: shares.get(name, 0) for name, digest in digests.items()}

    def require_silent(self, digest: str, share: int, place: str) -> None:
        """Raise UserError when a bundle that is to be removed answers requests."""
        if share:
            raise UserError(
                f"{self.name}: bundle {digest[:12]} answers {share} % of the requests in {place}, "
                "expected 0 before it is removed"
            )


@dataclass(frozen=True)
class Running:
    """What runs at an endpoint.

    `traffic` is the percentage of the requests that each deployed bundle answers, by its digest in
    64 hex digits, 0 included; `note` is what a rollout left there: that it is in progress, or why
    it was undone. `answers` is "no" when something deployed does not answer, and "elsewhere" when
    that is not seen from here, as another machine runs it. `address` is where clients send
    requests, "" where that is not known. `outdated` says how the options that a service was started
    with, or the registered version that is served, differ from the manifest's; deploying the bundle
    again changes that.
    """

    traffic: Mapping[str, int]
    note: str = ""
    answers: Literal["yes", "no", "elsewhere"] = "yes"
    address: str = field(default="", compare=False)
    outdated: str = field(default="", compare=False)


@dataclass(frozen=True)
class Health:
    """One bundle's answers since it was deployed.

    `errors` were answered with 500 and above, or not at all; `seconds` is the 95th percentile of
    the latency; `scores` counts rows by the tenth of 0 to 1 that the first output fell into, and is
    empty for a regression. `refused` were answered with 400 to 499; a target that knows which of
    these the other version answers counts them as errors instead.
    """

    requests: int
    errors: int
    seconds: float
    scores: tuple[int, ...] = ()
    refused: int = 0


@dataclass(frozen=True)
class Answer:
    """One bundle's first output for each row that it was asked, and the seconds that it took.

    Without scores it failed: with 500 and above, or with no answer.
    """

    seconds: float
    scores: tuple[float, ...] = ()


Row = Mapping[str, float | str | None]


class Target(Protocol):
    """One kind of place that runs bundles. Every call may be repeated, and interrupted."""

    def deploy(self, endpoint: Endpoint, pin: Pin, bundle: Path) -> None:
        """Run a bundle beside what runs, tested, with 0 % of the traffic; 100 % when it is alone.

        Raises UserError, and leaves what runs, when the bundle fails its smoke test.
        """

    def traffic(
        self, endpoint: Endpoint, shares: Mapping[str, int], mirror: Mapping[str, int] = NO_MIRROR
    ) -> None:
        """Give each digest its percentage of the requests; `mirror` is of copies, not served."""

    def health(self, endpoint: Endpoint, digest: str) -> Health:
        """One bundle's answers since it was deployed."""

    def ask(self, endpoint: Endpoint, digest: str, rows: Sequence[Row]) -> Answer:
        """Let this very bundle score rows, whatever its share; `health` need not count them."""

    def current(self, endpoint: Endpoint) -> Running:
        """What is deployed, each digest computed from the bytes or from what the target proves."""

    def remove(self, endpoint: Endpoint, digest: str) -> None:
        """Run this bundle no more; the last one removes the endpoint."""

    def note(self, endpoint: Endpoint, text: str) -> None:
        """Keep a line with the endpoint, "" for none."""
