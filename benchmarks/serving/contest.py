"""Servers loaded in turn, round after round; whoever's turn it is not is held."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from statistics import median

from benchmarks.figure import Figure, at_least, progress
from benchmarks.serving.load import Questions, Round, drive
from benchmarks.serving.server import Command, Server, running

# Enough for what happens at first requests only, and to compare a hundred answers at least.
TRIAL_CONNECTIONS = 4
TRIAL_SECONDS = 1.0


@dataclass(frozen=True)
class Plan:
    """How often each side has its turn and for how long, in seconds.

    A plan that does not judge is too short to: it shows that all works.
    """

    rounds: int = 5
    seconds: float = 3.0
    starts: int = 7
    judges: bool = True


QUICK = Plan(rounds=1, seconds=0.5, starts=1, judges=False)


@dataclass(frozen=True)
class Side:
    """A server, and what it is asked."""

    name: str
    server: Server
    questions: Questions


Turns = dict[str, list[Round]]


def contest(sides: Sequence[Side], connections: int, plan: Plan) -> Turns:
    """The rounds of each side by its name: there, back, there, so that no trend favours one."""
    turns: Turns = {side.name: [] for side in sides}
    for number in range(plan.rounds):
        for side in reversed(sides) if number % 2 else sides:
            with _turn(side.server):
                turns[side.name].append(
                    drive(side.server.port, side.questions, connections, plan.seconds)
                )
    for name, rounds in turns.items():
        rate, half = median(r.rate for r in rounds), median(r.median for r in rounds)
        progress(f"{connections} connections, {name}: {rate:.0f}/s, median {half * 1000:.2f} ms")
    return turns


def times(turns: Turns, ours: str, rival: str, label: str, goal: float) -> Figure:
    """How many times as many requests a second, of medians over the rounds."""
    above, below = (median(round.rate for round in turns[name]) for name in (ours, rival))
    return at_least(label, above / below, goal, f"{above:.0f}/s / {below:.0f}/s", digits=1)


@contextmanager
def held(commands: dict[str, tuple[Command, Questions]]) -> Iterator[dict[str, Server]]:
    """Start servers one after the other, try each one's answers, and hold it.

    Raises Failed when one does not give the bundle's probabilities.
    """
    with ExitStack() as stack:
        servers = {}
        for name, (command, questions) in commands.items():
            progress(f"{name}: starting")
            server = stack.enter_context(running(command, questions.requests[0]))
            drive(server.port, questions, TRIAL_CONNECTIONS, TRIAL_SECONDS, spot=1)
            server.pin()
            server.hold()
            servers[name] = server
        yield servers


@contextmanager
def _turn(server: Server) -> Iterator[None]:
    server.let_go()
    try:
        yield
    finally:
        server.hold()
