"""A connection that takes shortcuts answers what one without them answers, byte for byte."""

from __future__ import annotations

import asyncio
import itertools
import json

import pytest
import uvicorn
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from uvicorn.server import ServerState

from mlops.serving.protocol import Protocol
from mlops.serving.shortcut import HEADS, Shortcut
from tests.mlops.serving import bundles, forms
from tests.mlops.serving.test_app import count
from tests.mlops.serving.wrong import INFER, INVOKE, PREDICT, ROW, split, tensors, with_value

GOOD = [
    (PREDICT, ROW),
    (PREDICT, [ROW, ROW]),
    (INVOKE, split([with_value(1, 2.5)])),
    (INFER, tensors() | {"id": "42"}),
    (INFER, tensors(z={"shape": [1, 1]})),
]
BAD = [
    (PREDICT, []),
    (PREDICT, {**ROW, "z": "1"}),
    (PREDICT, {**ROW, "z": 1e39}),
    (INVOKE, split([with_value(2, "x")])),
    (INFER, tensors(z={"datatype": "BYTES"})),
    ("/nowhere", ROW),
]


def request(path, content, *headers, method="POST", version="1.1"):
    body = json.dumps(content).encode()
    lines = [
        f"{method} {path} HTTP/{version}", "host: here", "x-request-id: same",
        "content-type: application/json", f"content-length: {len(body)}", *headers,
    ]  # fmt: skip
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


USUAL = [request(path, content) for path, content in [*GOOD, *BAD]]
OTHERS = [
    b"GET /ping HTTP/1.1\r\nhost: here\r\nx-request-id: same\r\n\r\n",
    request(PREDICT, ROW, "upgrade: h2c", "connection: Upgrade"),
    request(PREDICT, ROW, "expect: 100-continue"),
    request(PREDICT, ROW, "content-encoding: gzip"),
    request(PREDICT, [ROW] * 300),
    request(PREDICT, ROW).replace(b"\r\n", b"\n", 3),
    b"\r\n" + request(PREDICT, ROW),
    b"POST /predict HTTP/1.1\r\nx-request-id: same\r\ntransfer-encoding: chunked\r\n\r\n"
    b"2\r\n[]\r\n0\r\n\r\n",
]
LAST = [
    request(PREDICT, ROW, "connection: close"),
    request(PREDICT, ROW, version="1.0"),
    b"no HTTP\r\n\r\n",
]


class Transport:
    """Keeps what is written."""

    def __init__(self):
        self.written, self.closed, self.paused = b"", False, False

    def get_extra_info(self, name):
        return None

    def write(self, data):
        self.written += data

    def is_closing(self):
        return self.closed

    def close(self):
        self.closed = True

    def pause_reading(self):
        self.paused = True

    def resume_reading(self):
        self.paused = False


class World:
    """An application, and connections to it of either kind."""

    def __init__(self, client):
        self.client, self.loop = client, client.loop
        self.config = uvicorn.Config(
            client.app, proxy_headers=False, ws="none", log_config=None, access_log=False
        )
        self.config.load()

    def connect(self, kind=Shortcut):
        made = kind(self.config, ServerState(), {}, self.loop)
        made.connection_made(Transport())
        return made

    def answered(self, connection, *pieces):
        """What is written when these pieces arrive one after the other."""
        before = len(connection.transport.written)
        self.loop.run_until_complete(self._send(connection, pieces))
        return connection.transport.written[before:]

    async def _send(self, connection, pieces):
        for piece in pieces:
            if not connection.transport.closed:
                connection.data_received(piece)
            await self._rest(connection)

    async def _rest(self, connection):
        """Wait until nothing that has arrived whole is unanswered."""
        quiet = 0
        while quiet < 5 and not connection.transport.closed:
            await asyncio.sleep(0)
            way = connection.cycle
            asked = connection.pipeline or (
                way and not (way.response_complete or way.disconnected or way.more_body)
            )
            asked = asked or (isinstance(connection, Shortcut) and not connection.done())
            quiet = 0 if asked else quiet + 1

    def at_once(self, connection, *pieces):
        """As `answered`, but nobody has a turn between two pieces."""
        before = len(connection.transport.written)

        async def send():
            for piece in pieces:
                connection.data_received(piece)
            await self._rest(connection)

        self.loop.run_until_complete(send())
        return connection.transport.written[before:]


@pytest.fixture(scope="module")
def world(client):
    return World(client)


@pytest.fixture
def shortcuts(monkeypatch):
    """How many requests were answered the short way."""
    taken = []
    write = Shortcut._write
    monkeypatch.setattr(
        Shortcut, "_write", lambda self, *words: (taken.append(1), write(self, *words))[1]
    )
    return taken


@pytest.mark.parametrize("place", range(len(GOOD)))
def test_what_is_asked_again_is_answered_the_short_way_and_the_same(world, shortcuts, place):
    asked = USUAL[place]
    world.client.app.heads.clear()
    connection, other = world.connect(), world.connect(Protocol)
    first = world.answered(connection, asked)
    assert (len(shortcuts), first[:12]) == (0, b"HTTP/1.1 200")
    assert [world.answered(connection, asked) for _ in range(3)] == [first] * 3
    assert len(shortcuts) == 3
    assert world.answered(other, asked) == first
    assert len(shortcuts) == 3


@pytest.mark.parametrize("place", range(len(GOOD), len(USUAL)))
def test_what_is_wrong_is_said_the_long_way(world, shortcuts, place):
    asked = USUAL[place]
    connection, other = world.connect(), world.connect(Protocol)
    expected = world.answered(other, asked)
    assert b"error" in expected
    assert [world.answered(connection, asked) for _ in range(3)] == [expected] * 3
    assert not shortcuts


@given(
    asked=st.lists(st.sampled_from([*USUAL, *USUAL, *OTHERS]), min_size=1, max_size=6),
    last=st.sampled_from([b"", *LAST]),
    cuts=st.lists(st.floats(0, 1), max_size=6),
)
@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_however_requests_arrive_the_answers_are_those_of_the_long_way(world, asked, last, cuts):
    """Cut anywhere, one behind the other, wrong ones among them."""
    world.client.app.heads.clear()
    stream = b"".join([*asked, last])
    places = sorted({0, *(int(cut * len(stream)) for cut in cuts), len(stream)})
    pieces = [stream[a:b] for a, b in itertools.pairwise(places)]
    for pieces_of in (pieces, [*asked, last] if last else asked):
        ways = [world.connect(kind) for kind in (Protocol, Shortcut)]
        expected, found = (world.answered(way, *pieces_of) for way in ways)
        assert found == expected
        assert ways[0].transport.closed == ways[1].transport.closed


def test_what_is_sent_before_the_answer_waits_for_it(world, shortcuts):
    connection, other = world.connect(), world.connect(Protocol)
    asked = [USUAL[0], USUAL[1], USUAL[6], USUAL[2], USUAL[0]]
    for one in asked:
        world.answered(connection, one)
    expected = b"".join(world.answered(other, one) for one in asked)
    shortcuts.clear()
    assert world.at_once(connection, *asked) == expected
    assert shortcuts
    assert not connection.transport.paused


def test_requests_of_many_connections_are_scored_together(world, shortcuts):
    connections = [world.connect() for _ in range(20)]
    expected = [world.answered(way, USUAL[0]) for way in connections]
    runs = count(world.client, "mlops_batch_rows_count")

    async def at_once():
        for way in connections:
            way.transport.written = b""
            way.data_received(USUAL[0])
        assert world.client.app.busy == len(connections)
        await asyncio.sleep(0.001)

    world.loop.run_until_complete(at_once())
    assert [way.transport.written for way in connections] == expected
    assert len(shortcuts) >= 20
    assert count(world.client, "mlops_batch_rows_count") == runs + 1
    assert world.client.app.busy == 0


def test_who_hangs_up_is_not_answered_and_holds_nothing(world):
    connection = world.connect()
    world.answered(connection, USUAL[0])
    before = connection.transport.written

    async def hang_up():
        connection.data_received(USUAL[0])
        assert world.client.app.busy == 1
        connection.connection_lost(None)
        await asyncio.sleep(0.001)

    world.loop.run_until_complete(hang_up())
    assert connection.transport.written == before
    assert world.client.app.busy == 0


def test_a_service_that_is_told_to_stop_answers_first(world):
    connection = world.connect()
    world.answered(connection, USUAL[0])
    connection.transport.written = b""

    async def stop():
        connection.data_received(USUAL[0])
        connection.shutdown()
        assert not connection.transport.closed
        await asyncio.sleep(0.001)

    world.loop.run_until_complete(stop())
    assert connection.transport.written.startswith(b"HTTP/1.1 200")
    assert b"\r\nconnection: close\r\n" in connection.transport.written
    assert connection.transport.closed


def test_an_idle_connection_is_closed_after_a_while_and_no_busy_one(world):
    connection = world.connect()
    connection.timeout_keep_alive = 0.2
    answered = [world.answered(connection, USUAL[0])]
    for _ in range(8):
        world.loop.run_until_complete(asyncio.sleep(0.05))
        answered.append(world.answered(connection, USUAL[0]))
    assert set(answered) == {answered[0]}
    assert answered[0]
    assert not connection.transport.closed
    world.loop.run_until_complete(asyncio.sleep(1.5))
    assert connection.transport.closed


def test_the_token_is_asked_for_on_both_ways(made, serve, shortcuts):
    word = "a-word-among-tests"
    world = World(serve(made("lightgbm", "binary"), token=word))
    connection = world.connect()
    for token, status in ((word, 200), ("other", 401), (word, 200), ("other", 401)):
        asked = request(PREDICT, ROW, f"authorization: Bearer {token}")
        assert int(world.answered(connection, asked)[9:12]) == status
    assert len(shortcuts) == 1


def test_a_busy_service_says_so_on_both_ways(made, serve):
    world = World(serve(made("lightgbm", "binary"), requests=2))
    connection = world.connect()
    for others, status in ((1, 200), (1, 200), (2, 429), (1, 200)):
        world.client.app.busy = others
        assert int(world.answered(connection, USUAL[0])[9:12]) == status
        assert world.client.app.busy == others


def test_heads_are_kept_in_bounds(world):
    connection = world.connect()
    for number in range(HEADS + 10):
        world.answered(connection, request(PREDICT, [], f"x-number: {number}"))
        assert len(world.client.app.heads) <= HEADS
    world.answered(connection, request(PREDICT, ROW, f"x-long: {'x' * 3000}"))
    assert not any(b"x-long" in head for head in world.client.app.heads)


def test_requests_are_counted_and_sampled_on_both_ways(made, serve, tmp_path, shortcuts):
    client = serve(made("lightgbm", "binary"), samples=tmp_path)
    client.app.service.samples.start()
    world = World(client)
    connection = world.connect()
    for _ in range(5):
        world.answered(connection, request(PREDICT, forms.records(bundles.frame(2))))
    assert len(shortcuts) == 4
    assert count(client, "mlops_requests_total", route="predict", status="200") == 5
    assert count(client, "mlops_request_seconds_count", route="predict") == 5
    client.loop.run_until_complete(client.app.service.stop())
    lines = (line for file in tmp_path.iterdir() for line in file.read_text().splitlines())
    assert [json.loads(line)["request"] for line in lines] == ["same"] * 10
