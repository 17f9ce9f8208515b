"""Clients that never stop, versions that come and go, processes that die: nothing is lost.

`make soak` runs it for as long as SOAK_SECONDS says; `make test` for some seconds.
"""

from __future__ import annotations

import os
import random
import signal
import time

import psutil
import pytest
from tests.mlops.deploy.bundles import ROWS

from mlops.deploy import local
from mlops.deploy.local import control
from mlops.deploy.manifest import Limits, Rollout
from mlops.deploy.rollout import roll_out
from tests.mlops.deploy.load import Load
from tests.mlops.deploy.place import Place
from tests.rehearsal.world import say

SECONDS = float(os.environ.get("SOAK_SECONDS", "10"))
SLOPES = (1.0, 1.1, 1.2)
SWAP = Rollout(
    steps=(10, 50), bake_seconds=0.2, requests=1,
    limits=Limits(errors=1.0, latency=1000.0, drift=1000.0), shadow=True,
)  # fmt: skip
# What buffers and pools may take; a leak of one body for each request takes more in a minute.
GROWTH_BYTES = 48 * 1024 * 1024

pytestmark = [pytest.mark.slow, pytest.mark.timeout(SECONDS * 2 + 300)]


def swap(place: Place, digest: str) -> None:
    list(roll_out(local, place.endpoint, place.pin(digest), place.folders[digest], SWAP))


def kill_one(place: Place, dice: random.Random) -> str:
    status = control.status(place.home)
    ready = [one for one in status.bundles.values() if one.ready] if status else []
    if ready:
        os.kill(dice.choice(ready).pid, signal.SIGKILL)
    return "a process killed" if ready else "nothing to kill"


def memory(place: Place) -> int:
    """Resident bytes of the supervisor, which is the router too."""
    return int(psutil.Process(place.home.address().pid).memory_info().rss)


def test_swaps_and_kills_under_load_lose_no_request(place: Place) -> None:
    dice, digests = random.Random(0), [place.bundle(slope) for slope in SLOPES]
    swap(place, digests[0])
    done = {"swapped": 0, "a process killed": 0, "nothing to kill": 0}
    with Load(place.url, ROWS, place.expected, clients=8) as clients:
        clients.wait(500)
        before, end = memory(place), time.monotonic() + SECONDS
        while time.monotonic() < end and not clients.failed:
            if dice.random() < 0.5:
                swap(place, digests[(done["swapped"] + 1) % len(digests)])
                done["swapped"] += 1
            else:
                done[kill_one(place, dice)] += 1
            clients.wait(50)
        grown = memory(place) - before
    say(f"{clients.asked} requests, {done}, memory grown by {grown / 2**20:.1f} MB")
    assert clients.failed == []
    assert clients.answered.total() == clients.asked
    assert done["swapped"]
    assert done["a process killed"]
    assert grown < GROWTH_BYTES
