"""A new version takes over step by step, or all traffic goes back to the one that ran.

What is under way is kept as the endpoint's note, so that a rollout that was killed is taken up by
the next one, whatever that is about: the way back to what ran is always known.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from mlops.base.errors import Refused
from mlops.deploy.canary_analysis import breach
from mlops.deploy.canary_comparison import Contest, Window, since
from mlops.deploy.manifest import Rollout
from mlops.deploy.target import Endpoint, Running, Target
from mlops.registry.pin import Pin

UNDER_WAY = re.compile(r"^rolling out [0-9a-f]{12} beside ([0-9a-f]{12})$")
LOOK_SECONDS = 1.0


def roll_out(
    target: Target, endpoint: Endpoint, pin: Pin, bundle: Path, rollout: Rollout, back: bool = False
) -> Iterator[str]:
    """Let the pinned bundle take over, a line for each step. May be repeated, and killed.

    `back` says that the environment ran it before: it is tested and asked, then takes over at once,
    for what runs may be what one flees from. Raises Refused, and leaves what ran with all of the
    traffic and the reason as the endpoint's note, when the new version breaches a limit.
    """
    settled = ran_before(target.current(endpoint), pin.digest)
    target.deploy(endpoint, pin, bundle)
    deployed = target.current(endpoint).traffic
    if settled in (None, pin.digest) or settled not in deployed:
        _take_over(target, endpoint, pin.digest)
        return
    contest = Contest(target, endpoint, settled, pin.digest, bundle, rollout)
    target.note(endpoint, f"rolling out {pin.digest[:12]} beside {settled[:12]}")
    yield from _guarded(contest, _steps_back(contest) if back else _steps(contest))
    _take_over(target, endpoint, pin.digest)


def ran_before(found: Running, wanted: str) -> str | None:
    """The digest that answered when no rollout was under way; None when nothing did.

    `wanted`, when that took over already and only the end was missing.
    """
    if found.traffic.get(wanted) == 100:
        return wanted
    known = UNDER_WAY.match(found.note)
    noted = [digest for digest in found.traffic if known and digest.startswith(known[1])]
    if noted:
        return noted[0]
    return max(found.traffic, key=lambda digest: found.traffic[digest], default=None)


def _take_over(target: Target, endpoint: Endpoint, digest: str) -> None:
    """All traffic to one, and nothing else deployed."""
    found = target.current(endpoint)
    if found.traffic.get(digest) != 100:
        target.traffic(endpoint, {name: 100 * (name == digest) for name in found.traffic})
    if found.note:
        target.note(endpoint, "")
    for name in found.traffic:
        if name != digest:
            target.remove(endpoint, name)


def _guarded(contest: Contest, steps: Iterator[str]) -> Iterator[str]:
    """Put everything back when a step breaches a limit, or can't be made."""
    _only_these(contest)
    try:
        yield from steps
    except Refused as refused:
        _undo(contest, str(refused))
        raise
    except (Exception, KeyboardInterrupt):
        # Best effort: the next run finds the note, and takes it up from there.
        with suppress(Exception):
            contest.share(0)
        raise


def _only_these(contest: Contest) -> None:
    """What a rollout that was killed may have left: a share, or a third version."""
    found = contest.target.current(contest.endpoint).traffic
    wanted = {name: 100 * (name == contest.running) for name in found}
    if found != wanted:
        contest.target.traffic(contest.endpoint, wanted)
    for name in found:
        if name not in (contest.running, contest.new):
            contest.target.remove(contest.endpoint, name)


def _undo(contest: Contest, reason: str) -> None:
    contest.share(0)
    contest.target.note(contest.endpoint, reason)
    contest.target.remove(contest.endpoint, contest.new)


def _steps(contest: Contest) -> Iterator[str]:
    rollout, new = contest.rollout, contest.new[:12]
    if rollout.shadow:
        yield f"{new} answers copies of all requests, unserved"
        window = _bake(contest, 0, mirror=100)
        yield f"{new} passed: {window.said}"
    for percent in rollout.steps:
        yield f"{new} answers {percent} % beside {contest.running[:12]}"
        window = _bake(contest, percent)
        yield f"{new} passed: {window.said}"


def _steps_back(contest: Contest) -> Iterator[str]:
    """What runs is no measure here, and time is dear: only that it answers is asked."""
    _judge(contest, contest.asked_alone(contest.rollout.requests), "before it took over again")
    yield f"{contest.new[:12]} ran here before, and takes over at once"


def _bake(contest: Contest, percent: int, mirror: int = 0) -> Window:
    """One step: wait, look, and judge at its end at the latest."""
    rollout, before = contest.rollout, contest.until_now()
    contest.share(percent, mirror)
    at = f"at {percent} %" if percent else "as a shadow"
    end = time.monotonic() + rollout.bake_seconds
    while (left := end - time.monotonic()) > 0:
        time.sleep(min(left, LOOK_SECONDS))
        window = since(before, contest.until_now())
        if window.new.requests >= rollout.requests:
            _judge(contest, window, at)
    window = since(before, contest.until_now())
    missing = rollout.requests - window.new.requests
    if missing > 0:
        window += contest.asked(missing)
    _judge(contest, window, at)
    return window


def _judge(contest: Contest, window: Window, at: str) -> None:
    why = breach(contest.rollout.limits, window.running, window.new, window.pair)
    if why:
        raise Refused(f"{contest.new[:12]} undone {at}: {why}")
