"""What a bundle's requests came to, in as little room however many there were."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

SHORTEST, STEP, BUCKETS = 1e-4, 1.1, 150


@dataclass
class Tally:
    """Counts of one bundle; times in buckets, each a tenth longer than the one before."""

    requests: int = 0
    errors: int = 0
    compared: int = 0
    differing: int = 0
    _times: list[int] = field(default_factory=lambda: [0] * BUCKETS)

    def answered(self, status: int, seconds: float) -> None:
        """Count an answer and the seconds that it took."""
        self.requests += 1
        self.errors += status >= 500
        place = math.log(max(seconds, SHORTEST) / SHORTEST, STEP)
        self._times[min(int(place), BUCKETS - 1)] += 1

    def missed(self) -> None:
        """Count a request that was not answered."""
        self.requests += 1
        self.errors += 1

    def percentile(self, share: float) -> float:
        """The seconds within which such a share was answered; 0 when nothing was."""
        rank = math.ceil(share * sum(self._times))
        for place, count in enumerate(self._times):
            rank -= count
            if count and rank <= 0:
                return float(SHORTEST * STEP ** (place + 1))
        return 0.0
