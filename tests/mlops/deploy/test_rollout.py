"""A new version takes over step by step, or is undone; whatever dies, no split stays."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.mlops.deploy.bundles import FAR, ROWS

from mlops.base.errors import Refused
from mlops.deploy import local
from mlops.deploy.local import control
from mlops.deploy.manifest import Limits, Rollout
from mlops.deploy.rollout import roll_out
from mlops.deploy.target import Answer, Endpoint, Health, Running
from tests.mlops.deploy import bundles
from tests.mlops.deploy.load import Load

NAMES = {letter: letter.lower() * 64 for letter in "ABC"}
AT_ONCE = Rollout(steps=(10, 50), bake_seconds=0, requests=20)
# The machine has other things to do: only what a test is about may breach.
LENIENT = Limits(latency=1000.0, drift=1000.0, errors=0.0)
QUICK = Rollout(steps=(10, 50), bake_seconds=1, requests=20, limits=LENIENT)


class PowerLost(BaseException):
    """Nothing may tidy up after it."""


class World:
    """A target that keeps in memory what a real one keeps; its power goes at a given call."""

    def __init__(self) -> None:
        self.bundles: dict[str, int] = {}
        self.text = ""
        self.bad: set[str] = set()
        self.calls_left = -1
        self.splits: list[dict[str, int]] = []

    def _call(self) -> None:
        if self.calls_left == 0:
            raise PowerLost
        self.calls_left -= 1

    def deploy(self, endpoint, pin, bundle):
        self._call()
        self.bundles.setdefault(pin.digest, 0 if self.bundles else 100)

    def traffic(self, endpoint, shares, mirror=None):
        self._call()
        assert sum(shares.values()) == 100
        assert set(shares) <= set(self.bundles)
        self.bundles = {name: shares.get(name, 0) for name in self.bundles}
        self.splits.append(dict(self.bundles))

    def health(self, endpoint, digest):
        self._call()
        return Health(0, 0, 0.0)

    def ask(self, endpoint, digest, rows):
        return Answer(0.001, () if digest in self.bad else (0.5,))

    def current(self, endpoint):
        self._call()
        return Running(dict(self.bundles), self.text)

    def remove(self, endpoint, digest):
        self._call()
        assert self.bundles[digest] == 0, "what answers requests is never removed"
        del self.bundles[digest]

    def note(self, endpoint, text):
        self._call()
        self.text = text


@pytest.fixture(scope="session")
def reference(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reference") / "bundle"
    bundles.sound(folder, 1.0)
    return folder


def rolled(world, letter, folder, rollout=AT_ONCE, back=False):
    endpoint = Endpoint("staging", "small", Path())
    return list(roll_out(world, endpoint, bundles.pin(NAMES[letter]), folder, rollout, back))


def test_the_first_version_answers_all_at_once(reference):
    world = World()
    assert rolled(world, "A", reference) == []
    assert world.bundles == {NAMES["A"]: 100}


def test_a_sound_version_goes_through_the_steps_and_the_old_one_goes(reference):
    world = World()
    rolled(world, "A", reference)
    lines = rolled(world, "B", reference)
    seen = [split[NAMES["B"]] for split in world.splits]
    assert seen == [10, 50, 100]
    assert world.bundles == {NAMES["B"]: 100}
    assert world.text == ""
    assert lines[0] == f"{'b' * 12} answers 10 % beside {'a' * 12}"
    assert lines[-1].startswith(f"{'b' * 12} passed: 20 requests, 0 failed")


def test_without_steps_it_switches_at_once(reference):
    world = World()
    rolled(world, "A", reference)
    rolled(world, "B", reference, replace_steps(()))
    assert world.splits == [{NAMES["A"]: 0, NAMES["B"]: 100}]


def replace_steps(steps):
    return AT_ONCE.model_copy(update={"steps": steps})


def test_a_version_that_fails_is_undone_with_its_reason(reference):
    world = World()
    rolled(world, "A", reference)
    world.bad = {NAMES["B"]}
    with pytest.raises(Refused, match="bbbb undone at 10 %: 20 of 20 requests failed"):
        rolled(world, "B", reference)
    assert world.bundles == {NAMES["A"]: 100}
    assert world.text == f"{'b' * 12} undone at 10 %: 20 of 20 requests failed, limit 0.01"


def test_a_shadow_that_fails_never_served_anybody(reference):
    world = World()
    rolled(world, "A", reference)
    world.bad = {NAMES["B"]}
    with pytest.raises(Refused, match="undone as a shadow: "):
        rolled(world, "B", reference, AT_ONCE.model_copy(update={"shadow": True}))
    assert all(split[NAMES["B"]] == 0 for split in world.splits)


def test_what_was_undone_is_tried_again_and_may_pass(reference):
    world = World()
    rolled(world, "A", reference)
    world.bad = {NAMES["B"]}
    with pytest.raises(Refused):
        rolled(world, "B", reference)
    world.bad = set()
    rolled(world, "B", reference)
    assert (world.bundles, world.text) == ({NAMES["B"]: 100}, "")


def test_the_way_back_takes_over_at_once_though_what_runs_is_broken(reference):
    world = World()
    rolled(world, "A", reference)
    rolled(world, "B", reference)
    world.bad = {NAMES["B"]}
    rolled(world, "A", reference, back=True)
    assert world.splits[-1] == {NAMES["B"]: 0, NAMES["A"]: 100}
    assert world.bundles == {NAMES["A"]: 100}


def test_the_way_back_to_what_does_not_answer_is_not_taken(reference):
    world = World()
    rolled(world, "A", reference)
    rolled(world, "B", reference)
    world.bad = {NAMES["A"]}
    with pytest.raises(Refused, match="undone before it took over again"):
        rolled(world, "A", reference, back=True)
    assert world.bundles == {NAMES["B"]: 100}


def test_a_fault_in_the_middle_gives_all_traffic_back_and_says_what_it_was(reference):
    world = World()
    rolled(world, "A", reference)

    def away(endpoint, digest, rows):
        raise ConnectionError("the wire is cut")

    world.ask = away
    with pytest.raises(ConnectionError):
        rolled(world, "B", reference)
    assert world.bundles == {NAMES["A"]: 100, NAMES["B"]: 0}


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from("ABC"), st.integers(0, 25), st.booleans()), min_size=1, max_size=6
    ),
    st.sampled_from("ABC"),
    st.sets(st.sampled_from("ABC")),
    st.booleans(),
)
def test_wherever_the_power_goes_the_next_run_ends_whole(reference, lives, wanted, bad, shadow):
    """Any pins, killed at any call, some bad: no split stays, and what is bad never takes over."""
    world = World()
    rollout = AT_ONCE.model_copy(update={"shadow": shadow})
    rolled(world, "A", reference)
    world.bad = {NAMES[letter] for letter in bad - {"A"}}
    for letter, calls, back in lives:
        world.calls_left = calls
        with suppress(PowerLost, Refused):
            rolled(world, letter, reference, rollout, back)
        world.calls_left = -1
    try:
        rolled(world, wanted, reference, rollout)
        expected = NAMES[wanted]
    except Refused:
        assert NAMES[wanted] in world.bad
        expected = None
    assert list(world.bundles.values()) == [100]
    assert not set(world.bundles) & world.bad
    assert expected is None or world.bundles == {expected: 100}


def test_going_back_in_the_middle_of_a_rollout_is_done_at_once(reference):
    """Half of the traffic is the new version's when the power goes; the pin is reverted."""
    world = World()
    rolled(world, "A", reference)
    world.bundles = {NAMES["A"]: 50, NAMES["B"]: 50}
    world.text = f"rolling out {'b' * 12} beside {'a' * 12}"
    assert rolled(world, "A", reference) == []
    assert world.splits == [{NAMES["A"]: 100, NAMES["B"]: 0}]
    assert (world.bundles, world.text) == ({NAMES["A"]: 100}, "")


# On this machine, with real processes.


def roll(place, digest, rollout=QUICK, back=False):
    return list(
        roll_out(local, place.endpoint, place.pin(digest), place.folders[digest], rollout, back)
    )


@pytest.fixture
def running(place):
    """The first version answers, and clients ask it."""
    digest = place.bundle(1.0)
    roll(place, digest)
    return digest


def load(place, rows=ROWS, clients=4):
    return Load(place.url, rows, place.expected, clients)


@pytest.mark.slow
def test_a_canary_takes_over_under_load_and_no_request_fails(place, running):
    new = place.bundle(1.2)
    with load(place) as clients:
        clients.wait(50)
        lines = roll(place, new)
        clients.wait(50, new)
    assert clients.failed == []
    assert [line.split(" % ")[0][-2:] for line in lines if " % beside" in line] == ["10", "50"]
    assert place.current == Running({new: 100})
    assert min(clients.answered[running], clients.answered[new]) > 50


@pytest.mark.slow
def test_a_canary_whose_scores_drift_is_undone_by_itself(place, running):
    new = place.bundle(-8.0)
    limits = LENIENT.model_copy(update={"drift": 0.2})
    with load(place) as clients:
        with pytest.raises(Refused, match="undone at 10 %: scores drift by "):
            roll(place, new, QUICK.model_copy(update={"limits": limits}))
        after = clients.answered[new]
        clients.wait(50)
    assert (clients.failed, clients.answered[new]) == ([], after)
    assert place.current.traffic == {running: 100}
    assert place.current.note.startswith(f"{new[:12]} undone at 10 %: scores drift by ")


@pytest.mark.slow
def test_drift_is_found_without_a_single_client(place, running):
    limits = LENIENT.model_copy(update={"drift": 0.2})
    rollout = Rollout(steps=(10,), bake_seconds=0, requests=40, limits=limits)
    with pytest.raises(Refused, match="scores drift by "):
        roll(place, place.bundle(-8.0), rollout)
    roll(place, place.bundle(1.1), rollout)


@pytest.mark.slow
def test_a_canary_that_is_slow_is_undone(place, running):
    new = place.bundle(1.0, bundles.slow)
    limits = LENIENT.model_copy(update={"latency": 3.0})
    rollout = Rollout(steps=(10,), bake_seconds=0, requests=20, limits=limits)
    with pytest.raises(Refused, match=r"undone at 10 %: latency \d+\.\d ms"):
        roll(place, new, rollout)
    assert place.current.traffic == {running: 100}


@pytest.mark.slow
def test_a_canary_that_fails_on_what_clients_really_ask_is_undone(place, running):
    """Its reference rows know nothing of such numbers: only traffic finds it."""
    new = place.bundle(1.0, bundles.failing)
    rows = [{"x": FAR + 1}]
    place.expected = {digest: [1.0] for digest in (running, new)}
    with load(place, rows) as clients:
        with pytest.raises(Refused, match="requests failed"):
            roll(place, new, QUICK.model_copy(update={"bake_seconds": 20}))
        clients.failed.clear()
        clients.wait(50, running)
    assert clients.failed == []
    assert place.current.traffic == {running: 100}


@pytest.mark.slow
def test_a_canary_that_dies_again_and_again_is_undone_and_loses_no_request(place, running):
    new, over = place.bundle(1.2), threading.Event()

    def kill():
        while not over.wait(0.05):
            status = control.status(place.home)
            process = status.bundles.get(new) if status else None
            if process and process.ready and place.current.traffic.get(new):
                os.kill(process.pid, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    with load(place) as clients:
        killer.start()
        try:
            with pytest.raises(Refused, match="requests failed"):
                roll(place, new)
        finally:
            over.set()
            killer.join()
    assert clients.failed == []
    assert place.current.traffic == {running: 100}
    assert "undone at 10 %" in place.current.note


@pytest.mark.slow
def test_a_shadow_answers_nobody_and_then_takes_over(place, running):
    new = place.bundle(1.2)
    with load(place) as clients:
        steps = roll_out(
            local, place.endpoint, place.pin(new), place.folders[new],
            QUICK.model_copy(update={"shadow": True}),
        )  # fmt: skip
        lines = [next(steps), next(steps)]
        assert clients.answered[new] == 0
        lines += list(steps)
        clients.wait(20, new)
    assert clients.failed == []
    assert lines[0] == f"{new[:12]} answers copies of all requests, unserved"
    assert "compared answers differ" in lines[1]


@pytest.mark.slow
def test_a_rollout_whose_supervisor_is_killed_goes_on(place, running):
    new = place.bundle(1.2)
    steps = roll_out(local, place.endpoint, place.pin(new), place.folders[new], QUICK)
    next(steps)
    os.kill(place.home.address().pid, signal.SIGKILL)
    list(steps)
    assert place.current == Running({new: 100})


@pytest.mark.slow
def test_wherever_a_real_rollout_is_killed_the_next_one_ends_it_and_no_request_fails(
    place, running
):
    """The verb dies, as a cancelled job does; what serves lives on."""
    new = place.bundle(1.2)
    code = (
        "import sys; from pathlib import Path; from mlops.deploy import local;"
        "from mlops.deploy.rollout import roll_out; from mlops.deploy.target import Endpoint;"
        "from mlops.deploy.manifest import Pin, Rollout; root, bundle, pin, rollout = sys.argv[1:];"
        "list(roll_out(local, Endpoint('staging', 'small', Path(root)), "
        "Pin.model_validate_json(pin), Path(bundle), Rollout.model_validate_json(rollout)))"
    )
    told = [place.root, place.folders[new], place.pin(new).model_dump_json()]
    with load(place) as clients:
        for looks in range(1, 7):
            verb = subprocess.Popen([sys.executable, "-c", code, *told, QUICK.model_dump_json()])
            # Further each time, by what the endpoint itself has come to.
            for _ in range(looks):
                before = place.home.state()
                while place.home.state() == before and verb.poll() is None:
                    time.sleep(0.005)
            verb.kill()
            verb.wait()
        roll(place, new)
        clients.wait(50, new)
    assert clients.failed == []
    assert place.current == Running({new: 100})
    assert place.placed == [new]
