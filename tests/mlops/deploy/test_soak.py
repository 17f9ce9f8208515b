"""Clients that never stop, versions that come and go, processes that end: no request is lost.

`make soak` runs it for as long as SOAK_SECONDS says; a test run for some seconds.
"""

from __future__ import annotations

import os
import random
import time
from collections import Counter

import psutil
import pytest

from mlops.deploy.manifest import Limits, Rollout
from tests.mlops.deploy.place import Place
from tests.rehearsal.world import say

SECONDS = float(os.environ.get("SOAK_SECONDS", "5"))
SLOPES = (1.0, 1.1, 1.2)
SWAP = Rollout(
    steps=(10, 50), bake_seconds=0.2, requests=1,
    limits=Limits(errors=1.0, latency=1000.0, drift=1000.0), shadow=True,
)  # fmt: skip
# What buffers and pools may take; a leak of one body for each request takes more in a minute.
GROWTH_BYTES = 48 * 1024 * 1024

pytestmark = [pytest.mark.slow, pytest.mark.nightly, pytest.mark.timeout(SECONDS * 2 + 300)]


def memory(place: Place) -> int:
    """Resident bytes of the supervisor, which is the router too."""
    return int(psutil.Process(place.supervisor).memory_info().rss)


def test_swaps_and_kills_under_load_lose_no_request(place: Place) -> None:
    dice, digests = random.Random(0), [place.bundle(slope) for slope in SLOPES]
    list(place.roll_out(digests[0], SWAP))
    done: Counter[str] = Counter()
    with place.load(clients=8) as clients:
        clients.wait(500)
        before, end = memory(place), time.monotonic() + SECONDS
        # At least one of each, however slow the machine.
        while (time.monotonic() < end or len(done) < 2) and not clients.failed:
            ready = [digest for digest, one in place.processes().items() if one.ready]
            if ready and dice.random() < 0.5:
                place.kill(dice.choice(ready))
                done["killed"] += 1
            else:
                list(place.roll_out(digests[(done["swapped"] + 1) % len(digests)], SWAP))
                done["swapped"] += 1
            clients.wait(50)
        grown = memory(place) - before
    say(f"{clients.sent} requests, {dict(done)}, memory grown by {grown / 2**20:.1f} MB")
    assert clients.failed == []
    assert clients.answered.total() == clients.sent
    assert grown < GROWTH_BYTES
