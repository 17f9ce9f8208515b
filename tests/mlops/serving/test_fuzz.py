"""Damaged requests: each is answered, none with a 5xx, and none leaves memory behind."""

import json
import random
import re
import socket
from contextlib import suppress
from http.client import HTTPConnection

import pytest

from tests.mlops.serving import bundles, forms
from tests.served import served

pytestmark = [pytest.mark.slow, pytest.mark.nightly]
COUNT = 4000
# Megabytes that the workers may grow by, from when they have seen every kind of request.
GROWTH = 25
# What a token may be replaced with.
VALUES = [
    b"null", b"true", b"[]", b"{}", b'""', b"-1", b"1e999", b"1e-999", b"NaN", b"-Infinity", b"01",
    b"1.", b"9" * 5000, b"3.5e38", b'"\\ud800"', b'"\\u0000"', b'"\\"', b"18446744073709551616",
    b'"\xff"', b'"' + b"x" * 3000 + b'"', b"[" * 3000, b'{"a":' * 3000, b"\0", b'"NaN"',
    b"\xef\xbb\xbf", b"\xed\xa0\x80",
]  # fmt: skip
TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"|-?\d[\d.eE+-]*|null|true|false|[\[\]{}:,\n]')
LENGTHS = ["0", "7", "99999999", "-1", "", "x", "1e3", "9" * 400, "0x10"]


@pytest.fixture(scope="module")
def service(made, tmp_path_factory):
    with served(made("lightgbm", "multiclass"), tmp_path_factory.mktemp("fuzz")) as running:
        yield running


@pytest.fixture(scope="module")
def valid():
    """Every form, of one row and of several."""
    wanted = {"id": "1", "parameters": {"binary_data_output": True}}
    model = "multiclass-model"
    every = [*forms.forms(model).values(), forms.packed(model, wanted=wanted)]
    return [form(bundles.frame(rows)) for form in every for rows in (1, 3)]


def damaged(sent, dice):
    """The request with bytes flipped, a piece cut or repeated, or tokens replaced."""
    body = sent.body
    for _ in range(dice.choice([1, 1, 2, 3])):
        start, end = sorted(dice.choices(range(len(body) + 1), k=2))
        tokens = list(TOKEN.finditer(body))
        match dice.randrange(6):
            case 0:
                body = body[:start] + bytes([dice.randrange(256)]) + body[start + 1 :]
            case 1:
                body = body[:start] + body[end:]
            case 2:
                body = body[:end] + body[start:end] * dice.randint(1, 20) + body[end:]
            case _ if tokens:
                token = dice.choice(tokens)
                value = dice.choice([*VALUES, dice.choice(tokens)[0]])
                body = body[: token.start()] + value + body[token.end() :]
    headers = dict(sent.headers)
    if dice.random() < 0.1:
        headers["Content-Type"] = dice.choice(["text/csv", "text/plain", "", forms.JSON])
    if dice.random() < 0.3 and forms.LENGTH in headers:
        headers[forms.LENGTH] = dice.choice(LENGTHS)
    return forms.Sent(sent.path, body, headers)


def wrong_answers(service, valid, count, seed):
    """Requests that are answered as none should be."""
    dice, wrong = random.Random(seed), []
    connection = HTTPConnection("127.0.0.1", service.port, timeout=60)
    for _ in range(count):
        sent = damaged(dice.choice(valid), dice)
        connection.request("POST", sent.path, sent.body, {"Content-Type": "", **sent.headers})
        answer = connection.getresponse()
        body = answer.read()
        refused = 400 <= answer.status < 500 and set(json.loads(body)) == {"error", "id"}
        if answer.status != 200 and not refused:
            wrong.append((sent, answer.status, body))
    connection.close()
    return wrong


def statuses(service, valid):
    kinds = [sent.headers["Content-Type"] for sent in valid]
    return {
        service.post(sent.path, sent.body, kind, **sent.headers).status
        for sent, kind in zip(valid, kinds, strict=True)
    }


def test_damaged_requests_are_refused_and_leave_nothing_behind(service, valid):
    assert wrong_answers(service, valid, 1500, seed=1) == []
    used = service.memory
    assert wrong_answers(service, valid, COUNT, seed=2) == []
    assert service.memory < used + GROWTH
    assert service.count("mlops_requests_total", status="422") > COUNT / 10
    assert statuses(service, valid) == {200}
    assert '"level":"error"' not in service.log.read_text()


def test_bytes_that_are_no_http_are_refused_and_the_service_serves_on(service, valid):
    first = valid[0]
    head = f"POST {first.path} HTTP/1.1\r\nHost: x\r\nContent-Type: {forms.JSON}\r\n".encode()
    for raw in [
        b"\0" * 1000, b"GET", b"GET / HTTP/9.9\r\n\r\n", b"POST / HTTP/1.1\r\n\r\n",
        head + b"Content-Length: x\r\n\r\n", head + b"Content-Length: -1\r\n\r\n",
        head + b"Transfer-Encoding: chunked\r\n\r\n5\r\n{}\r\n0\r\n\r\n",
        head + b"Content-Length: 99\r\n\r\n{", head + b"X: \0\r\n\r\n", b"\x16\x03\x01\x02\0\x01",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", head + b"A: " + b"x" * 200_000 + b"\r\n\r\n",
    ]:  # fmt: skip
        answer = b""
        with (
            socket.create_connection(("127.0.0.1", service.port), timeout=30) as connection,
            # The service hangs up on an endless head while it is sent.
            suppress(OSError),
        ):
            connection.sendall(raw)
            connection.shutdown(socket.SHUT_WR)
            while part := connection.recv(65536):
                answer += part
        assert not answer.startswith(b"HTTP/1.1 5"), (raw[:80], answer)
    assert statuses(service, valid) == {200}
    assert service.count("mlops_requests_total", status="500") == 0


def test_the_head_of_a_page_has_no_body_and_the_connection_serves_on(service):
    connection = HTTPConnection("127.0.0.1", service.port, timeout=60)
    for path in ("/ping", "/docs", "/model", "/metrics"):
        connection.request("HEAD", path)
        answer = connection.getresponse()
        assert (answer.status, answer.read()) == (200, b"")
        assert int(answer.headers["content-length"]) > 0
    connection.close()


def test_a_body_in_chunks_is_scored_as_a_whole_one(service, valid):
    for sent, size in ((valid[0], 1), (valid[-1], 100)):
        connection = HTTPConnection("127.0.0.1", service.port, timeout=60)
        parts = [sent.body[place : place + size] for place in range(0, len(sent.body), size)]
        connection.request("POST", sent.path, iter(parts), sent.headers, encode_chunked=True)
        assert connection.getresponse().status == 200
        connection.close()


SIZE = 15 * 1024 * 1024
FIRST = b'{"instances":['
# Bodies below the limit that would take much memory, were they decoded whole.
LARGE = [
    (b'{"a":' * (SIZE // 5), forms.JSON),
    (FIRST + b"1," * (SIZE // 2) + b"1]}", forms.JSON),
    (FIRST + b'NaN,"' + b'\\"' * (SIZE // 2), forms.JSON),
    (b"\n" * SIZE, forms.CSV),
    (b"," * SIZE, forms.CSV),
]


def test_large_bodies_are_refused_and_leave_no_memory_behind(service, valid):
    used = []
    for _ in range(3):
        for body, kind in LARGE:
            assert 400 <= service.post("/invocations", body, kind).status < 500
        used.append(service.memory)
    # The first ones leave buffers that the next ones use.
    assert used[-1] < used[0] + GROWTH
    assert statuses(service, valid) == {200}
