"""Requests by key: features that were published before, from each kind of store."""

import json
import os
import shutil
import sqlite3
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import msgspec
import numpy as np
import pyarrow as pa
import pytest
from redis import ConnectionError, Redis

from mlops.base.errors import UserError
from mlops.base.processes import free_port, wait
from mlops.contract import bundle
from mlops.serving import stores
from mlops.serving.samples import Samples
from mlops.serving.settings import Settings
from mlops.serving.stores import Columns
from tests import programs
from tests.mlops.serving import bundles

HOUR = 3600
ROWS = bundles.frame(20, seed=7)
KEYS = [f"2013-12-31-UA-{n}" for n in range(len(ROWS))]
COLUMNS = Columns(tuple(reversed(bundles.NUMBERS)), tuple(bundles.WORDS))


@pytest.fixture(scope="module")
def redis(tmp_path_factory):
    """A server of Redis that can be stopped; its URL is in an environment variable."""
    server = programs.program("redis-server", "make packages", "/usr/sbin")
    folder, port = tmp_path_factory.mktemp("redis"), free_port()
    client = Redis(port=port)

    def answers():
        with suppress(ConnectionError):
            return client.ping()

    def start():
        running.process = subprocess.Popen(
            [server, "--port", str(port), "--save", "", "--dir", str(folder)],
            stdout=subprocess.DEVNULL,
        )
        assert wait(answers, lambda: running.process.poll() is None, 30)

    running = SimpleNamespace(start=start, client=client)
    start()
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("FEATURES_URL", f"redis://127.0.0.1:{port}/0")
        yield running
    running.process.kill()


@pytest.fixture(params=["embedded", pytest.param("redis", marks=pytest.mark.nightly)])
def place(request, tmp_path):
    """A kind of store and a location of its own."""
    if request.param == "embedded":
        return "embedded", f"{tmp_path}/features/production.sqlite"
    request.getfixturevalue("redis")
    return "redis", f"FEATURES_URL/{tmp_path.name}"


def publish(place, rows=ROWS, keys=KEYS, columns=COLUMNS, age=0.0):
    """Publish the features of these keys, made so many seconds ago."""
    kind, location = place
    made = time.time() - age
    table = pa.Table.from_pandas(rows.replace({"": None}).assign(id=keys), preserve_index=False)
    packed = stores.packed(table.to_batches(7), "id", columns, made)
    stores.store(kind).publish(location, columns, packed, made)


@pytest.fixture
def keyed(made, serve, place, tmp_path):
    """A service that looks features up; its model's key is `id`."""
    folder = tmp_path / "bundle"
    shutil.copytree(made("lightgbm", "binary"), folder)
    card = bundles.card(bundles.frame(), "lightgbm", "binary")
    bundle.write_card(folder, {**card, "key": "id"})
    return serve(folder, store=place[0], features=place[1])


def ask(client, keys, **overrides):
    body = {"keys": keys, **({"overrides": overrides} if overrides else {})}
    return client.post("/predict", body)


def scores(client, rows):
    return bundle.Scorer(client.app.service._path).predict(rows).tolist()


def test_a_key_is_answered_as_its_features_in_the_body_are(keyed, place):
    publish(place, age=90)
    reply = ask(keyed, KEYS)
    answer = reply.json
    assert [row["probability"] for row in answer["predictions"]] == scores(keyed, ROWS)
    assert answer["ages"] == pytest.approx([90] * len(KEYS), abs=60)
    assert 90 <= int(reply.headers["x-features-age"]) < 150
    records = ROWS.astype(object).where(ROWS.notna(), None).to_dict("records")
    assert keyed.post("/predict", records).json["predictions"] == answer["predictions"]


def test_single_features_of_a_key_are_overridden_in_each_protocol(keyed, place):
    publish(place)
    changed = ROWS[:2].assign(z=[5.0, ROWS["z"][1]], city=["a", "c"])
    expected = scores(keyed, changed)
    reply = ask(keyed, KEYS[:2], z=[5.0, None], city=["a", "c"])
    assert [row["probability"] for row in reply.json["predictions"]] == expected
    given = {"id": KEYS[:2], "z": [5.0, None], "city": ["a", "c"]}
    rows = [list(row) for row in zip(*given.values(), strict=True)]
    lines = "".join(f"{key},{z or ''},{city}\n" for key, z, city in rows)
    for content, body in (
        ("application/json", {"dataframe_split": {"columns": list(given), "data": rows}}),
        ("application/json", {"inputs": given}),
        ("text/csv", f"{','.join(given)}\n{lines}".encode()),
    ):
        reply = keyed.post("/invocations", body, {"content-type": content})
        assert [row["probability"] for row in reply.json["predictions"]] == expected
        assert "x-features-age" in reply.headers
    kinds = {"id": "BYTES", "z": "FP32", "city": "BYTES"}
    tensors = [{"name": name, "shape": [2], "datatype": kinds[name], "data": values}
               for name, values in given.items()]  # fmt: skip
    reply = keyed.post("/v2/models/binary-model/infer", {"inputs": tensors})
    assert reply.json["outputs"][0]["data"] == np.float32(expected).tolist()


def test_what_cannot_be_looked_up_is_refused_in_one_line(keyed, place):
    unpublished = "found no features" if place[0] == "redis" else "sqlite: No such file"
    reply = ask(keyed, KEYS[:1])
    assert (reply.status, unpublished in reply.error) == (503, True)
    publish(place)
    for body, status, reason in (
        ({"keys": ["x"]}, 422, "keys[0]: found 'x', expected a published key"),
        ({"keys": [*KEYS[:2], "'; drop table features"]}, 422, "keys[2]: found"),
        ({"keys": [""]}, 422, "keys[0]: found 0 characters, expected 1 to 512"),
        ({"keys": ["é" * 600]}, 422, "keys[0]: found 600 characters, expected 1 to 512"),
        ({"keys": ["a\0b"]}, 422, "keys[0]: found"),
        ({"keys": [1]}, 422, "keys[0]: found number, expected string"),
        ({"keys": []}, 422, "body: found no rows"),
        ({"keys": KEYS, "overrides": {"zz": [1]}}, 422, "unknown column 'zz'; did you mean 'z'?"),
        ({"keys": KEYS, "overrides": {"z": [1]}}, 422, "found 1 rows, expected 20 as in 'id'"),
        ({"keys": KEYS[:1], "overrides": {"z": ["1"]}}, 422, "overrides.z[0]: found string"),
        ({"keys": KEYS, "more": 1}, 422, "unknown field `more`"),
    ):
        reply = keyed.post("/predict", body)
        assert (reply.status, reason in reply.json["error"]) == (status, True), reply.body.decode()
    publish(place, age=50 * HOUR)
    reply = ask(keyed, KEYS[:1])
    assert reply.status == 503
    assert "features are 50.0 hours old, expected at most 48" in reply.error
    publish(place, age=-HOUR)
    assert "1.0 hours ahead of this clock" in ask(keyed, KEYS[:1]).error
    publish(place, columns=Columns(COLUMNS.numeric[1:], COLUMNS.categorical))
    reply = ask(keyed, KEYS[:1])
    assert f"found no column {COLUMNS.numeric[0]}, which bundle" in reply.body.decode()
    metrics = keyed.get("/metrics").body.decode()
    for outcome in ("found", "unknown", "stale"):
        assert f'mlops_keys_total{{outcome="{outcome}"}}' in metrics
    assert 'mlops_keys_total{outcome="unavailable"} 2.0' in metrics
    assert "mlops_features_made_timestamp_seconds 1." in metrics


def test_keys_of_any_form_are_looked_up_as_they_were_published(keyed, place):
    hostile = [
        "a'b", 'a"; drop table features; --', "ü\n\t", "mlops:features:*", "%s {0} $1", "é" * 512,
        "../../etc/passwd", "\u202e", "a b ", " a b", "A B", "𝄞", "0", "null",
    ]  # fmt: skip
    count = len(hostile)
    publish(place, rows=ROWS[:count], keys=hostile)
    answer = ask(keyed, hostile).json["predictions"]
    assert [row["probability"] for row in answer] == scores(keyed, ROWS[:count])
    # Half of a pair of UTF-16 is no text.
    reply = keyed.post("/predict", b'{"keys": ["\\ud834"]}')
    assert (reply.status, "error" in reply.json) == (400, True)
    with pytest.raises(UserError, match=r"features: id: found 600 characters: '.*, expected at"):
        publish(place, rows=ROWS[:1], keys=["k" * 600])
    assert ask(keyed, hostile[:1]).status == 200


def test_rows_in_the_body_need_no_store_and_may_have_a_key(made, serve, tmp_path):
    folder = tmp_path / "bundle"
    shutil.copytree(made("lightgbm", "binary"), folder)
    card = bundles.card(bundles.frame(), "lightgbm", "binary")
    bundle.write_card(folder, {**card, "key": "id"})
    client = serve(folder)
    row = {**card["example"], "id": "UA-1"}
    assert client.post("/predict", row).status == 200
    reply = ask(client, ["UA-1"])
    assert "this service has no features by key; expected all columns" in reply.error


def test_a_record_may_have_columns_of_the_names_that_requests_by_key_have(serve, tmp_path):
    rows = bundles.frame()[["z", "city"]].rename(columns={"z": "keys"})
    card = bundles.card(rows, "lightgbm", "binary") | {"key": "id"}
    model = bundles.exported("lightgbm", "binary", rows)
    client = serve(bundles.write(tmp_path / "bundle", model, card, rows))
    assert client.post("/predict", {"keys": 1.5, "city": "a"}).status == 200


def test_samples_have_the_key_and_the_features_that_were_scored(keyed, place, tmp_path):
    publish(place)
    service = keyed.app.service
    service.samples = Samples(Settings(samples=tmp_path / "samples"), service.metrics)
    service.samples.start()
    ask(keyed, KEYS[:2], z=[5.0, None])
    service.samples.stop()
    service.samples = None
    (file,) = (tmp_path / "samples").iterdir()
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert [line["key"] for line in lines] == KEYS[:2]
    assert lines[0]["inputs"]["z"] == 5.0
    assert lines[1]["inputs"]["city"] == ROWS["city"][1]


def test_a_new_publication_is_read_at_once_and_a_broken_one_never(keyed, place, tmp_path, caplog):
    publish(place)
    before = ask(keyed, KEYS[:1]).json["predictions"]
    publish(place, rows=ROWS[::-1])
    after = ask(keyed, KEYS[:1]).json["predictions"]
    assert after != before
    assert [one["probability"] for one in after] == scores(keyed, ROWS[-1:])
    with pytest.raises(UserError, match="id: found a row without one"):
        publish(place, keys=[*KEYS[:-1], None])
    if place[0] == "embedded":
        with pytest.raises(UserError, match="found a key twice"):
            publish(place, keys=KEYS[:1] * len(KEYS))
        publish(place, rows=ROWS.iloc[[-1] * 2000], keys=[*KEYS[:1], *map(str, range(1999))])
        assert ask(keyed, KEYS[:1]).json["predictions"] == after
        whole = Path(place[1]).read_bytes()
        page = whole[:8192] + b"\xff" * 4096 + whole[12288:]
        for content in (whole[: len(whole) // 2], page, b"no database", b""):
            part = tmp_path / "part"
            part.write_bytes(content)
            os.replace(part, place[1])
            caplog.clear()
            assert [ask(keyed, KEYS[:1]).json["predictions"] for _ in range(2)] == [after] * 2
            (record,) = caplog.records
            assert record.getMessage() == "features refused"
            assert f"{place[1]}: not a whole file of features: " in record.reason
        os.remove(place[1])
        assert ask(keyed, KEYS[:1]).json["predictions"] == after
        assert sorted(os.listdir(os.path.dirname(place[1]))) == []


def test_a_publication_removes_nothing_but_published_features(tmp_path):
    table, other, folder = (tmp_path / name for name in ("a.csv", "b.sqlite", "c"))
    table.write_bytes(b"day,key\n")
    with sqlite3.connect(other) as database:
        database.execute("create table flights (day text)")
    (folder / "more").mkdir(parents=True)
    before = other.read_bytes()
    for path in (table, other, folder):
        with pytest.raises(UserError, match=f"{path.name}: found something else; expected publish"):
            publish(("embedded", str(path)))
    assert (table.read_bytes(), other.read_bytes()) == (b"day,key\n", before)
    assert sorted(os.listdir(tmp_path)) == ["a.csv", "b.sqlite", "c"]
    assert os.listdir(folder) == ["more"]


def test_published_features_are_replaced_though_damaged(tmp_path):
    path = tmp_path / "features.sqlite"
    place = "embedded", str(path)
    publish(place)
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(UserError, match=r"features.sqlite: not a whole file of features"):
        stores.store("embedded").about(place[1])
    publish(place)
    assert stores.store("embedded").about(place[1]).keys == len(KEYS)


WHOLE = stores.Stored(time.time(), b"\0" * 4 * len(bundles.NUMBERS), ("a",) * len(bundles.WORDS))
# Numbers that are too few or no floats, no categories, no text, no time, no whole row, no row.
DAMAGED = [
    *(stores.pack(msgspec.structs.replace(WHOLE, **change)) for change in (
        {"numeric": b"\0" * 4}, {"numeric": b"\0" * 7}, {"categorical": ()},
        {"made": float("nan")},
    )),
    stores.pack(WHOLE).replace(b"\xa1a", b"\xa1\xff"), stores.pack(WHOLE)[:-2], b"\xc0",
]  # fmt: skip


def test_a_damaged_row_is_refused_in_one_line_and_counted(keyed, place):
    for packed in DAMAGED:
        stores.store(place[0]).publish(place[1], COLUMNS, [(KEYS[0], packed)], time.time())
        reply = ask(keyed, KEYS[:1])
        assert (reply.status, "features" in reply.error) == (503, True), reply.body
    metrics = keyed.get("/metrics").body.decode()
    for outcome, count in (("stale", 1), ("unavailable", len(DAMAGED) - 1)):
        assert f'mlops_keys_total{{outcome="{outcome}"}} {count}.0' in metrics


def test_what_is_published_says_how_much_and_when(place):
    kind, location = place
    store = stores.store(kind)
    assert store.about(location) is None
    publish(place, age=HOUR)
    found = store.about(location)
    assert (found.keys, found.columns) == (len(KEYS), COLUMNS)
    assert time.time() - found.made == pytest.approx(HOUR, abs=60)


def test_an_unknown_store_is_named_with_the_nearest():
    with pytest.raises(UserError, match="found 'redsi'.*did you mean 'redis'"):
        stores.store("redsi")


@pytest.mark.nightly
@pytest.mark.parametrize("place", ["redis"], indirect=True)
def test_while_redis_is_away_or_slow_rows_in_the_body_are_answered(keyed, place, redis):
    publish(place)
    row = bundles.card(bundles.frame(), "lightgbm", "binary")["example"]
    for signal in ("-STOP", "-KILL"):
        subprocess.run(["kill", signal, str(redis.process.pid)], check=True)
        reply = ask(keyed, KEYS[:1])
        assert (reply.status, reply.headers["retry-after"]) == (503, "1")
        assert reply.json["error"].startswith(f"features: {place[1]}: ")
        assert keyed.post("/predict", row).status == 200
    redis.process.wait()
    with pytest.raises(UserError, match="features: FEATURES_URL/"):
        publish(place)
    redis.start()
    publish(place)
    assert ask(keyed, KEYS[:1]).status == 200


@pytest.mark.nightly
@pytest.mark.parametrize("place", ["redis"], indirect=True)
def test_a_full_redis_refuses_a_publication_in_one_line(place, redis):
    redis.client.config_set("maxmemory", redis.client.info("memory")["used_memory"] + 10_000)
    with pytest.raises(UserError, match="features: FEATURES_URL.*memory"):
        publish(place, rows=ROWS.iloc[[0] * 2000], keys=[f"{'k' * 60}{n}" for n in range(2000)])
    redis.client.config_set("maxmemory", 0)
