"""Roll out a new version step by step, or give all traffic back to the one that ran.

What is in progress is kept as the endpoint's note, so that the next rollout, of whatever version,
finds one that was killed: which version ran before is always known.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from mlops.base.errors import Refused
from mlops.deploy.canary_analysis import Comparison, Window, breach
from mlops.deploy.manifest import Rollout
from mlops.deploy.target import Endpoint, Running, Target
from mlops.registry.pin import Pin

IN_PROGRESS = re.compile(r"^rolling out [0-9a-f]{12} beside ([0-9a-f]{12})$")
LOOK_SECONDS = 1.0


def roll_out(
    target: Target, endpoint: Endpoint, pin: Pin, bundle: Path, rollout: Rollout, back: bool = False
) -> Iterator[str]:
    """Let the pinned bundle take over, a line for each step. May be repeated, and killed.

    `back` says that the environment ran it before: it is tested and asked, then takes over at once,
    for the running version may be faulty. Raises Refused, and leaves what ran with all of the
    traffic and the reason as the endpoint's note, when the new version breaches a limit.
    """
    before = ran_before(target.current(endpoint), pin.digest)
    target.deploy(endpoint, pin, bundle)
    deployed = target.current(endpoint).traffic
    if before in (None, pin.digest) or before not in deployed:
        _take_over(target, endpoint, pin.digest)
        return
    comparison = Comparison(target, endpoint, before, pin.digest, bundle, rollout)
    target.note(endpoint, f"rolling out {pin.digest[:12]} beside {before[:12]}")
    yield from _guarded(comparison, _steps_back(comparison) if back else _steps(comparison))
    _take_over(target, endpoint, pin.digest)


def ran_before(running: Running, wanted: str) -> str | None:
    """The digest that answered when no rollout was in progress; None when nothing did.

    `wanted`, when that has all traffic already and only the rollout's end is missing.
    """
    if running.traffic.get(wanted) == 100:
        return wanted
    note = IN_PROGRESS.match(running.note)
    noted = [digest for digest in running.traffic if note and digest.startswith(note[1])]
    if noted:
        return noted[0]
    return max(running.traffic, key=lambda digest: running.traffic[digest], default=None)


def _take_over(target: Target, endpoint: Endpoint, digest: str) -> None:
    """Give all traffic to one bundle, and remove all others."""
    _give_all(target, endpoint, digest)
    if target.current(endpoint).note:
        target.note(endpoint, "")


def _give_all(target: Target, endpoint: Endpoint, digest: str, beside: str = "") -> None:
    """Give all traffic to one bundle, and remove the others but for the one `beside` it."""
    traffic = target.current(endpoint).traffic
    wanted = {name: 100 * (name == digest) for name in traffic}
    if traffic != wanted:
        target.traffic(endpoint, wanted)
    for name in traffic:
        if name not in (digest, beside):
            target.remove(endpoint, name)


def _guarded(comparison: Comparison, steps: Iterator[str]) -> Iterator[str]:
    """Give all traffic back when a step breaches a limit or fails."""
    # A killed rollout may have left a share, or a third version.
    _give_all(comparison.target, comparison.endpoint, comparison.running, comparison.new)
    try:
        yield from steps
    except Refused as refused:
        comparison.share(0)
        comparison.target.note(comparison.endpoint, str(refused))
        comparison.target.remove(comparison.endpoint, comparison.new)
        raise
    except (Exception, KeyboardInterrupt):
        # Best effort: the next rollout finds the note, and continues from there.
        with suppress(Exception):
            comparison.share(0)
        raise


def _steps(comparison: Comparison) -> Iterator[str]:
    rollout, new = comparison.rollout, comparison.new[:12]
    if rollout.shadow:
        yield f"{new} answers copies of all requests, unserved"
        window = _bake(comparison, 0, mirror=100)
        yield f"{new} passed: {window.summary}"
    for percent in rollout.steps:
        yield f"{new} answers {percent} % beside {comparison.running[:12]}"
        window = _bake(comparison, percent)
        yield f"{new} passed: {window.summary}"


def _steps_back(comparison: Comparison) -> Iterator[str]:
    """Only check that it answers: the running version is no measure here, and time matters."""
    window = comparison.ask(comparison.rollout.requests, both=False)
    _require(comparison, window, "before it took over again")
    yield f"{comparison.new[:12]} ran here before, and takes over at once"


def _bake(comparison: Comparison, percent: int, mirror: int = 0) -> Window:
    """Hold one step's shares for its time, and check the limits, at its end at the latest."""
    rollout, before = comparison.rollout, comparison.totals()
    comparison.share(percent, mirror)
    step = f"at {percent} %" if percent else "as a shadow"
    end = time.monotonic() + rollout.bake_seconds
    while (left := end - time.monotonic()) > 0:
        time.sleep(min(left, LOOK_SECONDS))
        window = comparison.totals() - before
        if window.new.requests >= rollout.requests:
            _require(comparison, window, step)
    window = comparison.totals() - before
    missing = rollout.requests - window.new.requests
    if missing > 0:
        window += comparison.ask(missing)
    _require(comparison, window, step)
    return window


def _require(comparison: Comparison, window: Window, step: str) -> None:
    """Raise Refused when the window breaches a limit."""
    reason = breach(comparison.rollout.limits, window.running, window.new, window.pairs)
    if reason:
        raise Refused(f"{comparison.new[:12]} undone {step}: {reason}")
