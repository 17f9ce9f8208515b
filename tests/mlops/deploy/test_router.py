"""The router: fair turns, second attempts, honest counts, shadows that nobody waits for."""

from __future__ import annotations

import json
from contextlib import suppress

import pytest
import requests

from mlops.base import processes
from mlops.deploy import local
from mlops.deploy.local.router import differ
from mlops.deploy.local.supervisor import BODY_BYTES
from mlops.deploy.prometheus import samples, tenths
from tests.mlops.deploy import small
from tests.mlops.deploy.load import post
from tests.mlops.deploy.small import FAR, ROWS


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
        (b"\x00", b"\x01", True),
        (b"\x00", b"\x00", False),
    ],
)
def test_answers_are_compared_by_their_predictions_or_else_by_their_bytes(served, shadow, differs):
    bodies = (b if isinstance(b, bytes) else json.dumps(b).encode() for b in (served, shadow))
    assert differ(*bodies) == differs


@pytest.mark.slow
def test_a_request_that_one_does_not_answer_another_answers_and_it_is_counted(place):
    first, second = place.deploy(1.0, 2.0)
    place.traffic((first, 50), (second, 50))
    with place.load() as clients:
        clients.wait(50, second)
        place.kill(second)
        clients.wait(50, first)
    assert clients.failed == []
    assert local.health(place.endpoint, second).errors > 0
    assert local.health(place.endpoint, first).errors == 0


@pytest.mark.slow
def test_a_shadow_is_compared_and_nobody_waits_for_it(place):
    (first,), (second,) = place.deploy(1.0), place.deploy(2.0, make=small.slow)
    place.traffic((first, 100), (second, 0), mirror={second: 100})
    assert {post(place.url, row)[1]["x-model-digest"] for row in ROWS} == {first}

    def compared():
        return local.health(place.endpoint, second).compared == len(ROWS)

    assert processes.wait(compared)
    health = local.health(place.endpoint, second)
    # Both predict 0.5 of 0.
    assert health.differing == len(ROWS) - 1
    assert sum(health.scores) == len(ROWS)
    assert health.seconds > local.health(place.endpoint, first).seconds


@pytest.mark.slow
def test_only_answers_of_500_and_above_are_errors_and_all_are_passed_on(place):
    (digest,) = place.deploy(1.0, make=small.failing)
    assert post(place.url, {"x": FAR + 1})[0] == 500
    assert post(place.url, {"x": "no number"})[0] == 422
    health = local.health(place.endpoint, digest)
    assert (health.requests, health.errors) == (2, 1)


@pytest.mark.slow
def test_every_path_and_protocol_goes_through_and_too_large_a_body_does_not(place):
    (digest,) = place.deploy(1.0)
    for path in ("/ping", "/v2/models/small", "/docs", "/openapi.json", "/metrics", "/model?x=%20"):
        response = requests.get(place.url + path, timeout=60)
        assert (response.status_code, response.headers["x-model-digest"]) == (200, digest), path
    response = requests.get(f"{place.url}/no%2Fwhere", timeout=60)
    assert (response.status_code, bool(response.content)) == (404, True)
    csv = {"content-type": "text/csv"}
    response = requests.post(f"{place.url}/invocations", b"x\n0.5\n", headers=csv, timeout=60)
    assert (response.status_code, bool(response.json()["predictions"])) == (200, True)
    # The connection may be closed before all of it is sent.
    with suppress(requests.ConnectionError):
        large = b" " * (BODY_BYTES + 1)
        assert requests.post(f"{place.url}/predict", large, timeout=60).status_code == 413
    assert post(place.url, ROWS[0])[0] == 200
