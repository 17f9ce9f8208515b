"""The router: fair turns, second tries, honest counts, shadows that nobody waits for."""

from __future__ import annotations

import http.client
import json
import os
import signal
import time
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops.deploy import local
from mlops.deploy.local import control
from mlops.deploy.local.router import BODY_BYTES, Weights
from mlops.deploy.local.shadow import differ
from mlops.deploy.local.tally import Tally
from mlops.deploy.prometheus import samples, tenths
from tests.mlops.deploy import bundles
from tests.mlops.deploy.bundles import FAR, ROWS
from tests.mlops.deploy.load import Load, post

SHARES = st.dictionaries(st.text(max_size=3), st.integers(0, 100), min_size=1, max_size=4)


@given(SHARES.filter(lambda shares: sum(shares.values())))
def test_turns_follow_the_weights_to_the_request(shares):
    turns, total = Weights(), sum(shares.values())
    told = [turns.next(shares) for _ in range(total)]
    assert {name: told.count(name) for name in shares} == shares


@given(st.lists(st.sampled_from([{"a": 90, "b": 10}, {"a": 50, "b": 50}, {"a": 0, "b": 100}])))
def test_weights_that_move_never_give_a_turn_to_what_has_none(moves):
    turns = Weights()
    for shares in moves:
        assert shares[turns.next(shares)] > 0


def test_without_any_weight_it_is_nobody_s_turn():
    assert Weights().next({"a": 0}) is None


@given(st.lists(st.floats(1e-4, 60), min_size=1, max_size=200))
def test_a_percentile_is_right_within_a_tenth(times):
    tally = Tally()
    for seconds in times:
        tally.answered(200, seconds)
    rank = sorted(times)[-(-95 * len(times) // 100) - 1]
    assert rank * 0.99 <= tally.percentile(0.95) <= rank * 1.11


def test_only_answers_of_500_and_above_and_none_at_all_are_errors():
    tally = Tally()
    for status in (200, 400, 404, 422, 429, 500, 503):
        tally.answered(status, 0.01)
    tally.missed()
    assert (tally.requests, tally.errors) == (8, 3)


def test_scores_are_read_by_output_and_tenth():
    text = (
        'mlops_scores_total{output="probability_0",tenth="0.3"} 2.0\n'
        'mlops_scores_total{output="probability_0",tenth="0.9"} 1.0\n'
        'mlops_scores_total{output="probability_1",tenth="0.9"} 7.0\n'
    )
    assert tenths(samples(text), "probability_0") == (0, 0, 0, 2, 0, 0, 0, 0, 0, 1)
    assert tenths(samples(text), "prediction") == ()


@pytest.mark.parametrize(
    ("served", "shadow", "differs"),
    [
        ({"id": "a", "predictions": [0.5]}, {"id": "b", "predictions": [0.5 + 1e-9]}, False),
        ({"predictions": [0.5]}, {"predictions": [0.51]}, True),
        ({"predictions": [{"a": 1.0, "b": 2.0}]}, {"predictions": [{"b": 2.0, "a": 1.0}]}, False),
        ({"outputs": [{"data": [1.0]}], "id": "x"}, {"outputs": [{"data": [1.0]}]}, False),
        ({"predictions": [0.5]}, {"predictions": [0.5, 0.5]}, True),
        ({"predictions": [True]}, {"predictions": [False]}, True),
        ([1.0], [1.0], False),
    ],
)
def test_answers_are_compared_by_their_numbers(served, shadow, differs):
    assert differ(json.dumps(served).encode(), json.dumps(shadow).encode()) == differs


def test_answers_that_are_no_json_are_compared_as_bytes():
    assert differ(b"\x00", b"\x01")
    assert not differ(b"\x00", b"\x00")


# With real processes.


@pytest.mark.slow
def test_what_one_does_not_answer_another_one_does_and_it_is_counted(place):
    first, second = (place.deploy(place.bundle(slope)) for slope in (1.0, 2.0))
    local.traffic(place.endpoint, {first: 50, second: 50})
    with Load(place.url, ROWS, place.expected) as clients:
        clients.wait(50, second)
        os.kill(control.status(place.home).bundles[second].pid, signal.SIGKILL)
        clients.wait(50, first)
    assert clients.failed == []
    assert local.health(place.endpoint, second).errors > 0
    assert local.health(place.endpoint, first).errors == 0


@pytest.mark.slow
def test_a_process_that_hangs_is_not_waited_for_for_ever(place):
    """Stopped, not dead: the supervisor ends it, and what hung with it is asked again."""
    digest = place.deploy(place.bundle(1.0))
    pid = control.status(place.home).bundles[digest].pid
    os.kill(pid, signal.SIGSTOP)
    status, _, _ = post(place.url, ROWS[0])
    assert status == 200
    assert control.status(place.home).bundles[digest].pid != pid


@pytest.mark.slow
def test_a_shadow_is_compared_and_nobody_waits_for_it(place):
    first = place.deploy(place.bundle(1.0))
    second = place.deploy(place.bundle(2.0, bundles.slow))
    local.traffic(place.endpoint, {first: 100, second: 0}, {second: 100})
    said = [post(place.url, row)[1]["x-model-digest"] for row in ROWS]
    assert set(said) == {first}
    deadline = time.monotonic() + 60
    while (found := local.health(place.endpoint, second)).compared < len(ROWS):
        assert time.monotonic() < deadline, found
        time.sleep(0.05)
    # Both say 0.5 of 0.
    assert found.differing == len(ROWS) - 1
    assert sum(found.scores) == len(ROWS)
    assert found.seconds > local.health(place.endpoint, first).seconds


@pytest.mark.slow
def test_an_error_of_the_service_is_passed_on_and_counted(place):
    digest = place.deploy(place.bundle(1.0, bundles.failing))
    assert post(place.url, {"x": FAR + 1})[0] == 500
    assert post(place.url, {"x": "no number"})[0] == 422
    assert local.health(place.endpoint, digest).errors == 1


@pytest.mark.slow
def test_every_path_and_protocol_goes_through(place):
    digest = place.deploy(place.bundle(1.0))
    client = http.client.HTTPConnection(urlsplit(place.url).netloc, timeout=60)
    for path in ("/ping", "/v2/models/small", "/docs", "/openapi.json", "/metrics", "/model?x=%20"):
        client.request("GET", path)
        answer = client.getresponse()
        answer.read()
        assert (answer.status, answer.headers["x-model-digest"]) == (200, digest), path
    client.request("GET", "/no%2Fwhere")
    answer = client.getresponse()
    assert (answer.status, answer.read() != b"") == (404, True)
    client.request("POST", "/invocations", b"x\n0.5\n", {"content-type": "text/csv"})
    answer = client.getresponse()
    assert answer.status == 200
    assert json.loads(answer.read())["predictions"]
    client.close()


@pytest.mark.slow
def test_a_body_that_is_too_large_is_refused_at_the_door(place):
    place.deploy(place.bundle(1.0))
    client = http.client.HTTPConnection(urlsplit(place.url).netloc, timeout=60)
    with pytest.raises((AssertionError, OSError)):
        client.request("POST", "/predict", b" " * (BODY_BYTES + 1))
        assert client.getresponse().status != 413
    client.close()
    assert post(place.url, ROWS[0])[0] == 200
