"""The service without HTTP: changes of the bundle, large requests, samples, settings."""

import asyncio
import errno
import json
import os
import shutil
import threading

import numpy as np
import pytest

from mlops.base.errors import UserError
from mlops.contract import bundle
from mlops.serving import samples, service, settings
from tests.mlops.serving import bundles, forms

ROW = forms.records(bundles.frame(1, missing=0))[0]


@pytest.fixture
def fast(monkeypatch):
    """Look for another bundle all the time."""
    monkeypatch.setattr(service, "INTERVAL", 0.005)
    monkeypatch.setattr(service, "LOOKS", 3)


@pytest.fixture
def served(made, serve, tmp_path, fast):
    """A service, the file that names its bundle, and what names another and waits for a change."""
    for name, family in (("first", "lightgbm"), ("second", "xgboost")):
        shutil.copytree(made(family, "binary"), tmp_path / name)
    current = tmp_path / "current"
    current.write_text("first")
    client = serve(current)
    running = client.app.service

    def change(name):
        (tmp_path / "new").write_text(name)
        os.replace(tmp_path / "new", current)

    async def until(condition):
        async with asyncio.timeout(20):
            while not condition():
                await asyncio.sleep(0.005)

    def wait(condition):
        client.loop.run_until_complete(until(condition))

    running.start(client.loop)
    return client, running, change, wait


def test_a_version_is_shown_with_the_bundle_that_has_it_alone(served, tmp_path):
    client, running, change, wait = served
    for name, version in (("second", ""), ("first", "7")):
        change(name)
        digest = bundle.digest(tmp_path / name)
        wait(lambda digest=digest: running.endpoint.model.digest == digest)
        reply = client.post("/predict", ROW)
        assert (reply.json["digest"], reply.json["version"]) == (digest, version)
        assert reply.headers["x-model-version"] == version


def test_a_bundle_that_failed_is_tried_again_and_refused_in_the_log_once(served, tmp_path, caplog):
    _, running, change, wait = served
    model = tmp_path / "second" / bundle.MODEL
    whole = model.read_bytes()
    model.write_bytes(whole[:100])
    looks = []
    load = running._load
    running._load = lambda: (looks.append(1), load())
    change("second")
    wait(lambda: len(looks) > 3)
    model.write_bytes(whole)
    digest = bundle.digest(tmp_path / "second")
    wait(lambda: running.endpoint.model.digest == digest)
    assert [record.message for record in caplog.records if record.levelname == "ERROR"] == [
        "bundle refused"
    ]


def test_a_large_body_is_decoded_while_others_are_answered(made, serve):
    client = serve(made("lightgbm", "binary"))
    predict, answered = client.app.service.endpoint.predict, threading.Event()
    decode = predict.decode

    def wait(body):
        assert len(body) < 1000 or answered.wait(20)
        return decode(body)

    predict.decode = wait

    async def send():
        large = asyncio.create_task(
            client.call("POST", "/predict", json.dumps([ROW] * 1000).encode(), {})
        )
        await asyncio.sleep(0)
        small = await client.call("POST", "/predict", json.dumps(ROW).encode(), {})
        answered.set()
        return small, await large

    small, large = client.loop.run_until_complete(send())
    assert (small.status, large.status) == (200, 200)
    assert len(large.json["predictions"]) == 1000


def sample(running, size):
    rows = running.endpoint.predict.decode(json.dumps(ROW).encode())
    return samples.Sample(0.0, "a", running.endpoint.model, rows, [np.zeros(1)], size)


@pytest.fixture
def sampled(made, tmp_path):
    """A service that keeps samples, and whose thread for them has not begun."""
    folder = str(made("lightgbm", "binary"))
    return service.Service(settings.Settings(folder, samples=tmp_path / "samples"))


def test_samples_that_wait_are_bounded_by_the_bytes_of_their_requests(sampled, monkeypatch):
    monkeypatch.setattr(samples, "WAITING", 100)
    kept = sampled.samples
    for _ in range(5):
        kept.offer(sample(sampled, 40))
    assert kept.queue.qsize() == 2
    kept.handle(kept.queue.get())
    kept.offer(sample(sampled, 40))
    assert kept.queue.qsize() == 2


def test_a_full_disk_is_said_once_and_again_after_it_had_room(sampled, monkeypatch, caplog):
    kept, full = sampled.samples, [True]

    def emit(record):
        if full[0]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(kept._file, "emit", emit)
    monkeypatch.setattr(samples, "lines", lambda sample: ["a line"])
    for state in (True, True, False, True, True):
        full[0] = state
        kept.handle(sample(sampled, 1))
    assert [record.reason for record in caplog.records] == [
        "[Errno 28] No space left on device"
    ] * 2
    counted = sampled.metrics.render().decode()
    assert 'mlops_samples_total{outcome="lost"} 4.0' in counted
    assert 'mlops_samples_total{outcome="kept"} 1.0' in counted


@pytest.mark.parametrize("token", ["", "\n", " ", "two words", "tab\t", "caf\xe9", "a\nb"])
def test_a_token_that_no_header_carries_is_refused(token):
    with pytest.raises(UserError, match="MLOPS_SERVING_TOKEN: expected printable ASCII") as refused:
        settings.parse(["models/bundle"], token)
    assert token.strip() == "" or token not in str(refused.value)


@pytest.mark.parametrize(("token", "kept"), [(None, ""), ("a-b", "a-b"), ("a-b\r\n", "a-b")])
def test_a_line_break_at_the_end_of_a_file_is_not_part_of_the_token(token, kept):
    assert settings.parse(["models/bundle"], token).token == kept


def test_a_limit_that_is_no_number_is_refused(capsys):
    with pytest.raises(SystemExit):
        settings.parse(["models/bundle", "--body-timeout", "nan"], None)
    assert "found nan, expected 0.1 or more" in capsys.readouterr().err
