"""Whether a version is ripe for promotion: the conditions of the manifest that it comes to."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from mlops import deploy
from mlops.base import processes
from mlops.base.errors import one_line
from mlops.deploy.manifest import Manifest, Promotion
from mlops.deploy.target import Endpoint, Running
from mlops.forge.select import TOKENS
from mlops.gitops import pins, reconcile
from mlops.registry.pin import Pin

# An environment's assessment of now: the digest, and `ok` or why not.
Monitor = Callable[[str], tuple[str, str]]
VERIFY_SECONDS = 600


class Condition(NamedTuple):
    """What was found, with what was expected, and whether that is enough."""

    met: bool
    text: str


def conditions(
    root: Path, main: str, source: str, wanted: Manifest, asked: Promotion, monitored: Monitor
) -> list[Condition]:
    """What is asked of the bundle that `source` pins. Raises UserError where nobody can tell."""
    pin, running = wanted.pin, reconcile.running(wanted, root, source)
    assert pin
    found = list(_observed(root, main, source, wanted, asked, monitored, pin, running))
    if asked.verify and all(condition.met for condition in found):
        found.append(_verified(root, source, asked.verify, pin, running))
    elif asked.verify:
        found.append(Condition(False, f"`{one_line(asked.verify)}` waits for the rest"))
    return found


def _observed(
    root: Path, main: str, source: str, wanted: Manifest, asked: Promotion, monitored: Monitor,
    pin: Pin, running: Running,
) -> Iterator[Condition]:  # fmt: skip
    if running.traffic == {pin.digest: 100} and running.answers == "yes":
        yield Condition(True, f"{source} runs it with all of the requests, and it answers")
    else:
        why = running.note or f"`mlops reconcile {source}` first"
        shown, silent = reconcile.shown(running), reconcile.SILENT.get(running.answers)
        shown = f"{shown}, which {silent}" if silent else shown
        yield Condition(False, f"{source} runs {shown}, pinned is {pin.digest[:12]}; {why}")
    if asked.hours:
        since = pins.pinned_since(root, main, source, pin.digest)
        hours = (time.time() - since) / 3600 if since else 0.0
        text = f"pinned by {source} for {hours:.1f} hours, expected {asked.hours:g}"
        yield Condition(hours >= asked.hours, text)
    if asked.requests:
        answered = 0
        if pin.digest in running.traffic:
            endpoint = Endpoint(source, wanted.endpoint, root)
            health = deploy.named(wanted.target).health(endpoint, pin.digest)
            answered = health.requests - health.errors
        text = f"{answered} requests answered in {source}, expected {asked.requests}"
        yield Condition(answered >= asked.requests, text)
    if asked.monitoring == "ok":
        digest, state = monitored(source)
        if digest not in ("", pin.digest):
            state = f"of {digest[:12]}, which main does not pin"
        expected = "" if state == "ok" else ", expected ok"
        yield Condition(state == "ok", f"monitoring of {source}: {state}{expected}")


def _verified(root: Path, source: str, command: str, pin: Pin, running: Running) -> Condition:
    """The end of the verification command, and the last line that it printed."""
    variables = {
        "MLOPS_ENVIRONMENT": source,
        "MLOPS_SERVING_URL": running.address,
        "MLOPS_BUNDLE": pin.digest,
    }
    # It has no use for the right to write.
    inherited = {name: value for name, value in os.environ.items() if name not in TOKENS}
    with tempfile.TemporaryFile("w+", errors="replace") as output:
        process = subprocess.Popen(
            command, shell=True, cwd=root, env=inherited | variables, start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=output, stderr=output,
        )  # fmt: skip
        try:
            code = process.wait(VERIFY_SECONDS)
            ended = f"exit code {code}"
        except subprocess.TimeoutExpired:
            code, ended = None, f"not finished after {VERIFY_SECONDS} s"
        finally:
            # What it left in the background too.
            processes.stop([process.pid])
        output.seek(0)
        lines = [line for line in output.read().splitlines() if line.strip()]
    last = one_line(lines[-1]) if lines else "no output"
    wrong = f"{ended}, expected 0: " * (code != 0)
    return Condition(code == 0, f"`{one_line(command)}`: {wrong}{last}")
