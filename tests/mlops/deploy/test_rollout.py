"""A new version takes over step by step, or is undone; whatever ends, no split stays."""

from __future__ import annotations

import multiprocessing
import signal
import time
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops.base.errors import Refused, UserError
from mlops.deploy.manifest import Limits, Rollout
from mlops.deploy.rollout import roll_out
from mlops.deploy.target import Answer, Endpoint, Health, Running
from tests.mlops.deploy import small
from tests.mlops.deploy.processes import rolled_out
from tests.mlops.deploy.small import FAR

NAMES = {letter: letter.lower() * 64 for letter in "ABC"}
A, B = NAMES["A"], NAMES["B"]
AT_ONCE = Rollout(steps=(10, 50), bake_seconds=0, requests=20)
SHADOW = AT_ONCE.model_copy(update={"shadow": True})
# On a loaded machine only the limit that a test is about may be breached.
LENIENT = Limits(latency=1000.0, drift=1000.0, errors=0.0)
QUICK = Rollout(steps=(10, 50), bake_seconds=1, requests=20, limits=LENIENT)


class PowerLost(BaseException):
    """Nothing may run after it."""


class World:
    """A target in memory, whose power goes at a given call."""

    def __init__(self, running: str = "") -> None:
        self.bundles: dict[str, int] = {running: 100} if running else {}
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
    small.sound(folder, 1.0)
    return folder


def rolled(world, digest, folder, rollout=AT_ONCE, back=False):
    endpoint = Endpoint("staging", "small", Path())
    return list(roll_out(world, endpoint, small.pin(digest), folder, rollout, back))


@pytest.mark.parametrize("steps", [(10, 50), ()])
def test_a_sound_version_goes_through_the_steps_and_the_old_one_goes(reference, steps):
    world = World(A)
    lines = rolled(world, B, reference, AT_ONCE.model_copy(update={"steps": steps}))
    assert [split[B] for split in world.splits] == [*steps, 100]
    assert (world.bundles, world.text) == ({B: 100}, "")
    assert lines[::2] == [f"{'b' * 12} answers {step} % beside {'a' * 12}" for step in steps]
    assert all(line.startswith(f"{'b' * 12} passed: 20 requests, 0") for line in lines[1::2])


@pytest.mark.parametrize(
    ("rollout", "step"), [(AT_ONCE, "at 10 %"), (SHADOW, "as a shadow")], ids=["canary", "shadow"]
)
def test_a_version_that_fails_is_undone_with_its_reason_and_may_be_tried_again(
    reference, rollout, step
):
    world = World(A)
    world.bad = {B}
    reason = f"{'b' * 12} undone {step}: 20 of 20 requests failed, limit 0.01"
    with pytest.raises(Refused, match=reason):
        rolled(world, B, reference, rollout)
    assert (world.bundles, world.text) == ({A: 100}, reason)
    assert rollout is AT_ONCE or all(split[B] == 0 for split in world.splits)
    world.bad = set()
    rolled(world, B, reference, rollout)
    assert (world.bundles, world.text) == ({B: 100}, "")


def test_the_way_back_takes_over_at_once_though_what_runs_fails(reference):
    world = World(B)
    world.bad = {B}
    rolled(world, A, reference, back=True)
    assert (world.splits, world.bundles) == ([{B: 0, A: 100}], {A: 100})


def test_the_way_back_to_what_does_not_answer_is_not_taken(reference):
    world = World(B)
    world.bad = {A}
    with pytest.raises(Refused, match="undone before it took over again"):
        rolled(world, A, reference, back=True)
    assert world.bundles == {B: 100}


def test_a_fault_in_the_middle_gives_all_traffic_back_and_is_raised(reference):
    world = World(A)

    def unreachable(endpoint, digest, rows):
        raise ConnectionError("the wire is cut")

    world.ask = unreachable
    with pytest.raises(ConnectionError):
        rolled(world, B, reference)
    assert world.bundles == {A: 100, B: 0}


def test_going_back_in_the_middle_of_a_rollout_is_done_at_once(reference):
    """Half of the traffic is the new version's when the power goes; the pin is reverted."""
    world = World()
    world.bundles = {A: 50, B: 50}
    world.text = f"rolling out {'b' * 12} beside {'a' * 12}"
    assert rolled(world, A, reference) == []
    assert world.splits == [{A: 100, B: 0}]
    assert (world.bundles, world.text) == ({A: 100}, "")


@pytest.mark.slow
@settings(max_examples=100)
@given(
    st.lists(
        st.tuples(st.sampled_from("ABC"), st.integers(0, 25), st.booleans()), min_size=1, max_size=6
    ),
    st.sampled_from("ABC"),
    st.sets(st.sampled_from("BC")),
    st.booleans(),
)
def test_wherever_the_power_goes_the_next_run_ends_whole(reference, lives, wanted, bad, shadow):
    """Any pins, killed at any call, some bad: no split stays, and what is bad never takes over."""
    world = World(A)
    world.bad = {NAMES[letter] for letter in bad}
    rollout = SHADOW if shadow else AT_ONCE
    for letter, calls, back in lives:
        world.calls_left = calls
        with suppress(PowerLost, Refused):
            rolled(world, NAMES[letter], reference, rollout, back)
        world.calls_left = -1
    try:
        rolled(world, NAMES[wanted], reference, rollout)
        assert list(world.bundles) == [NAMES[wanted]]
    except Refused:
        assert NAMES[wanted] in world.bad
    assert list(world.bundles.values()) == [100]
    assert not set(world.bundles) & world.bad


# On this machine, with real processes.


@pytest.fixture
def running(place):
    """The first version, which answers."""
    (digest,) = place.deploy(1.0)
    return digest


@pytest.mark.slow
def test_a_canary_that_fails_on_what_clients_really_ask_is_undone(place, running):
    """No reference row has such numbers: only traffic finds it."""
    new = place.bundle(1.0, small.failing)
    place.expected = {digest: [1.0] for digest in (running, new)}
    with place.load([{"x": FAR + 1}]) as clients:
        with pytest.raises(Refused, match="undone at 10 %: .* requests failed"):
            list(place.roll_out(new, QUICK.model_copy(update={"bake_seconds": 20})))
        clients.wait(50, running)
    assert clients.failed == []
    assert place.current.traffic == {running: 100}
    assert place.current.note.startswith(f"{new[:12]} undone at 10 %: ")


# What the next version is, and the limit that it breaches; none by the first one.
KINDS = [
    (1.1, small.sound, {}), (-3.0, small.sound, {"drift": 0.2}), (1.0, small.failing, {}),
    (1.0, small.made, {}), (1.0, small.slow, {"latency": 3.0}), (1.2, small.garbage, {}),
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.nightly
@pytest.mark.timeout(900)
def test_of_rollouts_of_every_kind_no_client_notices_one(place, running):
    """Good ones; nonsense, crashing, other columns, slow, not what its card says."""
    rows = [*small.ROWS, {"x": FAR + 1}]
    place.expected[running] = small.scores(1.0, rows)
    with place.load(rows) as clients:
        for slope, make, limit in KINDS:
            limits = LENIENT.model_copy(update=limit)
            canary = QUICK.model_copy(update={"limits": limits, "requests": 30})
            new = place.bundle(slope, make)
            place.expected[new] = small.scores(slope, rows)
            clients.wait(50)
            if make is small.sound and not limit:
                list(place.roll_out(new, canary))
                running = new
            else:
                with pytest.raises((Refused, UserError)):
                    list(place.roll_out(new, canary))
            assert place.current.traffic == {running: 100}
    assert clients.failed == []


@pytest.mark.slow
def test_a_shadow_answers_nobody_then_takes_over_in_steps_and_no_request_fails(place, running):
    new = place.bundle(1.2)
    with place.load() as clients:
        clients.wait(50)
        steps = place.roll_out(new, QUICK.model_copy(update={"shadow": True}))
        shadowed = [next(steps), next(steps)]
        assert clients.answered[new] == 0
        lines = list(steps)
        clients.wait(50, new)
    assert clients.failed == []
    assert shadowed[0] == f"{new[:12]} answers copies of all requests, unserved"
    assert shadowed[1].startswith(f"{new[:12]} passed: ")
    assert [line.split(" % ")[0][-2:] for line in lines if " % beside" in line] == ["10", "50"]
    assert place.current == Running({new: 100})
    assert min(clients.answered[running], clients.answered[new]) > 50


@pytest.mark.slow
@pytest.mark.nightly
def test_wherever_a_rollout_is_killed_the_next_one_ends_it_and_no_request_fails(place, running):
    """The command is killed, as a cancelled job is; what serves continues."""
    new = place.bundle(1.2)
    context = multiprocessing.get_context("spawn")
    with place.load() as clients:
        for looks in (1, 3, 5):
            command = context.Process(
                target=rolled_out,
                args=(place.endpoint, place.pin(new), place.folders[new], QUICK),
            )
            command.start()
            # Further each time, by how often the endpoint's state has changed.
            for _ in range(looks):
                before = place.home.state()
                while place.home.state() == before and command.is_alive():
                    time.sleep(0.02)
            command.kill()
            command.join()
            assert command.exitcode in (0, -signal.SIGKILL)
        list(place.roll_out(new, QUICK))
        clients.wait(50, new)
    assert clients.failed == []
    assert place.current == Running({new: 100})
    assert place.copies == [new]
