"""Over twenty thousand damaged requests: each is answered, none with a 5xx, none costs memory."""

import json
import socket
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from http.client import HTTPConnection

import numpy as np
import pandas as pd
import pytest

from mlops.contract import bundle
from tests.mlops.serving import forms, mutations
from tests.served import served

pytestmark = [pytest.mark.slow, pytest.mark.nightly, pytest.mark.timeout(600)]
COUNT, SHARES = 20_000, 4
# Megabytes that the process may grow by, from when it has seen every kind of request.
GROWTH = 25


@pytest.fixture(scope="module")
def folder(made):
    return made("lightgbm", "multiclass")


@pytest.fixture
def service(folder, tmp_path):
    with served(folder, tmp_path, "--version", "3") as running:
        yield running


@pytest.fixture(scope="module")
def valid(folder):
    """Every form, of one row and of several."""
    card = bundle.read_card(folder)
    names = [column.name for column in card.inputs]
    frame = pd.read_parquet(folder / bundle.REFERENCE, columns=names)
    numbers = [column.name for column in card.inputs if column.type == "float"]
    frame.loc[frame.index[1], numbers[0]] = np.nan
    wanted = {"id": "1", "parameters": {"binary_data_output": True},
              "outputs": [{"name": card.outputs[0]}]}  # fmt: skip
    every = [*forms.forms(card.name).values(), forms.packed(card.name, wanted=wanted)]
    return [form(frame.head(rows)) for form in every for rows in (1, 3)]


def send(connection, sent):
    """The status; the same connection serves on unless the service closes it."""
    connection.request("POST", sent.path, sent.body, {"Content-Type": "", **sent.headers})
    answer = connection.getresponse()
    return answer.status, answer.read()


def bombard(service, valid, count, seed):
    """How many answers of each status, and those that should not be."""
    statuses, wrong = Counter(), []
    connection = HTTPConnection("127.0.0.1", service.port, timeout=60)
    for sent in mutations.requests(valid, count, seed):
        status, said = send(connection, sent)
        statuses[status] += 1
        if not (status == 200 or (400 <= status < 500 and well_said(said))):
            wrong.append((sent, status, said))
    connection.close()
    return statuses, wrong


def well_said(body):
    """One line of text, as every refusal is."""
    said = json.loads(body)
    return set(said) == {"error", "id"} and 0 < len(said["error"]) <= 600


def at_once(service, valid, count, seed):
    with ThreadPoolExecutor(SHARES) as threads:
        shares = [
            threads.submit(bombard, service, valid, count // SHARES, seed + share)
            for share in range(SHARES)
        ]
        results = [share.result() for share in shares]
    statuses = sum((statuses for statuses, _ in results), Counter())
    return statuses, [one for _, wrong in results for one in wrong]


def answers(service, valid):
    bodies = [service.post(v.path, v.body, v.headers["Content-Type"], **v.headers) for v in valid]
    return [(reply.status, scores(reply)) for reply in bodies]


def scores(reply):
    """The answer without the request's own id."""
    return reply.body.replace(reply.headers["x-request-id"].encode(), b"")


def test_damaged_requests_are_refused_and_leave_nothing_behind(service, valid):
    before = answers(service, valid)
    assert {status for status, _ in before} == {200}
    at_once(service, valid, 3000, seed=100)
    used = service.memory

    statuses, wrong = at_once(service, valid, COUNT, seed=0)

    assert wrong == []
    assert statuses.total() == COUNT
    assert statuses[400] > COUNT / 10
    assert statuses[422] > COUNT / 10
    assert service.memory < used + GROWTH
    assert [status for status, _ in answers(service, valid)] == [200] * len(valid)
    assert answers(service, valid) == before
    for status in statuses:
        assert service.count("mlops_requests_total", status=str(status)) >= statuses[status]
    assert '"level":"error"' not in service.log.read_text()


def test_bytes_that_are_no_http_are_refused_and_the_service_serves_on(service, valid):
    first = valid[0]
    head = f"POST {first.path} HTTP/1.1\r\nHost: x\r\nContent-Type: {forms.JSON}\r\n".encode()
    for raw in [
        b"\0" * 1000, b"GET", b"GET / HTTP/9.9\r\n\r\n", b"POST / HTTP/1.1\r\n\r\n",
        head + b"Content-Length: -1\r\n\r\n",
        head + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n",
        head + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\n{}",
        head + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        head + b"Transfer-Encoding: chunked\r\n\r\n5\r\n{}\r\n0\r\n\r\n",
        head + b"Content-Length: 99\r\n\r\n{", head + b"X: \0\r\n\r\n", b"\x16\x03\x01\x02\0\x01",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", head + b"A: " + b"x" * 200_000 + b"\r\n\r\n",
    ]:  # fmt: skip
        said = b""
        with (
            socket.create_connection(("127.0.0.1", service.port), timeout=30) as connection,
            # A head without an end is hung up on while it is sent.
            suppress(ConnectionError),
        ):
            connection.sendall(raw)
            connection.shutdown(socket.SHUT_WR)
            while part := connection.recv(65536):
                said += part
        assert not said.startswith(b"HTTP/1.1 5"), (raw[:80], said)
    assert {status for status, _ in answers(service, valid)} == {200}
    assert service.count("mlops_requests_total", status="500") == 0


def test_the_head_of_a_page_has_no_body_and_the_connection_serves_on(service, valid):
    connection = HTTPConnection("127.0.0.1", service.port, timeout=60)
    for path in ("/ping", "/docs", "/model", "/metrics"):
        connection.request("HEAD", path)
        answer = connection.getresponse()
        assert (answer.status, answer.read()) == (200, b"")
        assert int(answer.headers["content-length"]) > 0
        assert send(connection, valid[0])[0] == 200
    connection.close()


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_a_body_in_chunks_is_scored_as_a_whole_one(service, valid, size):
    for sent in valid:
        connection = HTTPConnection("127.0.0.1", service.port, timeout=60)
        parts = [sent.body[place : place + size] for place in range(0, len(sent.body), size)]
        connection.request("POST", sent.path, iter(parts), sent.headers, encode_chunked=True)
        assert connection.getresponse().status == 200
        connection.close()


LARGE = 15 * 1024 * 1024


def large(name):
    """Bodies below the limit that would take most memory, were they believed."""
    first, last = b'{"instances":[', b"]}"
    return {
        "nested lists": b"[" * LARGE,
        "nested objects": b'{"a":' * (LARGE // 5),
        "lists in parameters": b'{"params":' + b"[" * LARGE,
        "numbers": first + b"1," * (LARGE // 2) + b"1" + last,
        "not-a-numbers": first + b"NaN," * (LARGE // 4) + b"1" + last,
        "empty words": first + b"NaN," + b'"",' * (LARGE // 3) + b"1" + last,
        "an escaped novel": first + b'NaN,"' + b'\\"' * (LARGE // 2),
        "blank lines": b"\n" * LARGE,
        "commas": b"," * LARGE,
    }[name]


NAMES = ["nested lists", "nested objects", "lists in parameters", "numbers", "not-a-numbers",
         "empty words", "an escaped novel"]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_large_bodies_are_refused_and_their_memory_is_given_back(service, valid, name):
    before = answers(service, valid)
    used = service.memory
    for path in {sent.path for sent in valid}:
        assert 400 <= service.post(path, large(name)).status < 500
    assert service.memory < used + 60
    assert answers(service, valid) == before


@pytest.mark.parametrize("name", ["blank lines", "commas"])
def test_large_csv_is_refused_and_its_memory_is_given_back(service, valid, name):
    used = service.memory
    assert 400 <= service.post("/invocations", large(name), forms.CSV).status < 500
    assert service.memory < used + 60
    assert {status for status, _ in answers(service, valid)} == {200}
