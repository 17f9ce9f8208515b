"""Answers of Databricks are read from its inference tables, record by record."""

import dataclasses
import datetime as dt
import json
from contextlib import contextmanager

import msgspec
import pyarrow as pa
import pytest
from deltalake import write_deltalake

from mlops.base.errors import UserError
from mlops.contract import bundle
from mlops.deploy import local, manifest
from mlops.deploy.databricks import endpoint
from mlops.deploy.specification import name_of
from mlops.monitoring import logs, prometheus
from tests.mlops.deploy.databricks_server import Databricks
from tests.mlops.monitoring.place import ENVIRONMENT, MANIFEST, NOW
from tests.mlops.serving import bundles

COUNTS = {"judged": 0, "other": 0, "future": 0, "failed": 0, "broken": 0}
ENTITY = "6f3c-of-the-pin"
# https://docs.databricks.com/ai-gateway/inference-tables
SCHEMA = pa.schema([
    ("request_date", pa.date32()), ("databricks_request_id", pa.string()),
    ("client_request_id", pa.string()), ("request_time", pa.timestamp("us", "UTC")),
    ("status_code", pa.int32()), ("sampling_fraction", pa.float64()),
    ("execution_duration_ms", pa.int64()), ("request", pa.string()), ("response", pa.string()),
    ("served_entity_id", pa.string()), ("logging_error_codes", pa.list_(pa.string())),
    ("requester", pa.string()),
])  # fmt: skip


class Table:
    """An endpoint's inference table."""

    def __init__(self, place):
        self.place, self.asked = place, 0
        self.path = f"{place.root}/inference/a_model_payload"

    def record(self, request, response, moment=NOW - dt.timedelta(hours=1), pinned=True, **more):
        """Append a record as the endpoint does."""
        self.asked += 1
        text = [each if each is None or isinstance(each, str) else json.dumps(each)
                for each in (request, response)]  # fmt: skip
        row = {
            "request_date": moment.date(), "request_time": moment, "status_code": 200,
            "databricks_request_id": f"r-{self.asked}", "request": text[0], "response": text[1],
            "served_entity_id": ENTITY if pinned else "another", "sampling_fraction": 1.0, **more,
        }  # fmt: skip
        rows = pa.Table.from_pylist([{n: row.get(n) for n in SCHEMA.names}], SCHEMA)
        write_deltalake(self.path, rows, mode="append", partition_by=["request_date"])

    def read(self, query="SELECT count(*) FROM answers"):
        with logs.database() as database:
            counts = logs.read(database, "databricks", self.place.asked(self.path))
            return counts, database.execute(query).fetchall()


@pytest.fixture
def table(place, monkeypatch):
    monkeypatch.setattr(endpoint, "entity_ids", lambda name: {ENTITY, "older"})
    return Table(place)


def records(rows):
    return rows.astype(object).where(rows.notna(), None).to_dict("records")


def predictions(place, rows):
    scores = bundle.Scorer(place.folder / "models/bundle").predict(rows)
    return [{place.card.outputs[0]: float(score)} for score in scores]


def test_requests_in_each_of_mlflows_forms_are_read_as_the_endpoint_got_them(place, table):
    rows = bundles.frame(4, seed=1)
    sent, answered = records(rows), predictions(place, rows)
    split = {"columns": [*rows], "index": [0], "data": [[*row.values()] for row in sent[:1]]}
    columnar = {name: [row[name] for row in sent[2:3]] for name in rows}
    table.record({"dataframe_split": split}, {"predictions": answered[:1]})
    table.record({"dataframe_records": sent[1:2]}, {"predictions": answered[1:2]})
    table.record({"inputs": columnar}, {"predictions": answered[2:3]})
    scores = [row[place.card.outputs[0]] for row in answered[3:]]
    instances = [{name: [value] for name, value in row.items()} for row in sent[3:]]
    table.record({"instances": instances}, {"predictions": scores}, client_request_id="mine")
    counts, found = table.read(
        "SELECT i0, i1, i2, i3, i4, i5, o0, request FROM answers ORDER BY request"
    )
    assert counts == COUNTS | {"judged": 4}
    assert [row[-1] for row in found] == ["mine", "r-1", "r-2", "r-3"]
    expected = rows[["words", "numbers", "z", "city", "höhe", "numbers_0"]]
    found = [found[1], found[2], found[3], found[0]]
    for answer, (_, row), scored in zip(found, expected.iterrows(), answered, strict=True):
        assert list(answer[:6]) == [None if v in ("", None) or v != v else v for v in row]
        assert answer[6] == pytest.approx(scored[place.card.outputs[0]], abs=1e-7)


RECORD = {"dataframe_records": [{"z": 1}]}
BROKEN = [
    (None, None), ("{", "{}"), ("[]", "[]"), ("1", "1"), ("[" * 5000, "{}"),
    *((RECORD, {"predictions": predictions}) for predictions in (
        [], [{"other": 1.0}], ["much"], {"0": 0.7}, "5",
    )),
    (RECORD, '{"predictions": [NaN]}'), (RECORD, f'{{"predictions": [{"9" * 400}]}}'),
    ({"dataframe_records": []}, {"predictions": []}),
    ({"dataframe_records": [1]}, {"predictions": [0.5]}),
    ({"dataframe_split": {"columns": ["z"], "data": [[1, 2]]}}, {"predictions": [0.5]}),
    ({"inputs": {"z": [1, 2], "city": ["a"]}}, {"predictions": [0.5, 0.5]}),
    ('{"dataframe_records": [{"z": 1e999}]}', {"predictions": [0.5]}),
    ('{"dataframe_records": [{"city": "\\ud800"}]}', {"predictions": [0.5]}),
]  # fmt: skip


def test_records_that_are_not_understood_are_counted(place, table):
    rows = bundles.frame(2, seed=1)
    table.record({"dataframe_records": records(rows)}, {"predictions": predictions(place, rows)})
    for request, response in BROKEN:
        table.record(request, response)
    counts, found = table.read()
    assert (counts, found) == (COUNTS | {"judged": 2, "broken": len(BROKEN)}, [(2,)])


def test_what_is_no_number_is_missing_and_a_key_is_taken_along(place, table):
    for row in ('{"z": NaN, "id": "k"}', '{"z": 2, "id": 7}', '{"z": 3, "id": "\\ud800"}'):
        table.record(f'{{"dataframe_records": [{row}]}}', {"predictions": [0.5]})
    card = msgspec.structs.replace(place.card, key="id")
    with logs.database() as database:
        asked = dataclasses.replace(place.asked(table.path), card=card)
        counts = logs.read(database, "databricks", asked)
        rows = database.execute("SELECT key, i2 FROM answers ORDER BY request").fetchall()
    # Half a surrogate pair is no text.
    assert counts == COUNTS | {"judged": 2, "broken": 1}
    assert rows == [("k", None), ("7", 2.0)]


def test_what_another_version_answered_or_nobody_did_is_counted(place, table):
    rows = bundles.frame(2, seed=1)
    body = {"dataframe_records": records(rows)}, {"predictions": predictions(place, rows)}
    table.record(*body)
    table.record(*body, pinned=False)
    table.record(*body, moment=NOW + dt.timedelta(minutes=1))
    table.record(body[0], '{"error_code": "BAD_REQUEST"}', status_code=400)
    table.record(None, None, status_code=429)
    # Older than what is looked at.
    table.record(*body, moment=NOW - dt.timedelta(days=100))
    counts, _ = table.read()
    assert counts == {"judged": 2, "other": 2, "future": 2, "failed": 2, "broken": 0}
    assert "not judged: 2 requests that were refused or failed" in logs.left_out(counts)


def test_the_windows_of_an_inference_table_are_judged_as_those_of_the_service(
    place, table, monkeypatch
):
    def away(*endpoint):
        raise UserError("nothing runs here")

    monkeypatch.setattr(local, "health", away)
    for window in (0, 1):
        rows = bundles.frame(600, seed=window).assign(z=99.0)
        moment = NOW - dt.timedelta(hours=24 * window + 1)
        body = {"dataframe_records": records(rows)}, {"predictions": predictions(place, rows)}
        table.record(*body, moment=moment)
    assessment = place.watch(source="databricks", logs=table.path)
    assert [window.rows for window in assessment.windows] == [600, 600]
    assert any("features drift: z" in reason for reason in assessment.reasons)
    assert "the endpoint's metrics not read: nothing runs here" in assessment.notes


def test_the_endpoints_metrics_are_read_and_shown(place, monkeypatch):
    file = place.root / manifest.path(ENVIRONMENT)
    file.write_text(manifest.with_pin(MANIFEST.replace("local", "databricks"), place.pin))
    table = Table(place)
    monkeypatch.setattr(endpoint, "entity_ids", lambda name: {ENTITY})
    table.record(None, None, status_code=429)
    named = f'{{served_entity_name="{name_of(place.pin.digest)}"}}'
    counts = {"request_count_total": 50, "request_5xx_count_total": 2, "request_4xx_count_total": 3}
    with workspace(monkeypatch, {}) as server:
        server.endpoints["a-model"] = {"name": "a-model"}
        server.exported = "".join(f"{name}{named} {count}\n" for name, count in counts.items())
        assessment = place.watch(source="databricks", logs=table.path)
    assert assessment.notes == ("not judged: 1 requests that were refused or failed",)
    text = prometheus.text(assessment).decode()
    for outcome, count in (("answered", 45), ("failed", 2), ("refused", 3)):
        labels = f'{{environment="production",outcome="{outcome}"}}'
        assert f"mlops_monitoring_requests{labels} {count}.0" in text


def test_another_table_is_refused(place):
    table = Table(place)
    write_deltalake(table.path, pa.table({"z": [1]}))
    with pytest.raises(UserError) as refused:
        table.read()
    line = "no column status_code; found z, expected an inference table of Databricks"
    assert str(refused.value) == f"{table.path}: {line}"


def test_a_missing_table_is_said_of_the_place_of_the_records(place):
    for path, line in (
        ("uc://table", "found 'uc://table', expected uc://CATALOG.SCHEMA.TABLE or FOLDER/TABLE"),
        ("/no/such/table", "found '/no/such', nothing is there"),
    ):
        with pytest.raises(UserError) as refused, logs.database() as database:
            logs.read(database, "databricks", place.asked(path))
        assert str(refused.value) == f"params.yaml: monitoring.logs: {line}"


def test_an_unknown_kind_of_record_is_refused_with_the_nearest(place):
    with pytest.raises(UserError) as refused:
        place.watch(source="databrick")
    assert str(refused.value) == (
        "params.yaml: monitoring.source: found 'databrick'; did you mean 'databricks'?"
    )


@contextmanager
def workspace(monkeypatch, statement):
    """A workspace that answers statements so."""
    with Databricks() as server:
        server.reset()
        server.statement = statement
        for name, value in server.environment().items():
            monkeypatch.setenv(name, value)
        endpoint.client.cache_clear()
        yield server
        endpoint.client.cache_clear()


def test_the_ids_of_the_pins_entity_come_from_the_system_table(place, monkeypatch):
    name = name_of(place.pin.digest)
    with workspace(monkeypatch, {"SUCCEEDED": [["id-1"], ["id-2"]]}) as server:
        with pytest.raises(UserError, match="^DATABRICKS_WAREHOUSE_ID: not set; expected"):
            endpoint.entity_ids(name)
        monkeypatch.setenv("DATABRICKS_WAREHOUSE_ID", "w-1")
        assert endpoint.entity_ids(name) == {"id-1", "id-2"}
        (asked,) = server.statements
        assert asked["parameters"] == [{"name": "name", "value": name}]
        assert asked["warehouse_id"] == "w-1"
        server.statement = {"FAILED": "TABLE_OR_VIEW_NOT_FOUND"}
        with pytest.raises(UserError, match="could not find the ids of .*: TABLE_OR_VIEW_NOT_FOU"):
            endpoint.entity_ids(name)
