"""Paths, methods, tokens, request ids, and what is counted."""

import json

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from mlops.contract import bundle
from mlops.serving.routes import OPEN, ROUTES
from tests.mlops.serving import bundles, forms

ROW = forms.records(bundles.frame(1, missing=0))[0]
POSTED = ["/predict", "/invocations", "/v2/models/binary-model/infer"]
READ = [
    *sorted(path for method, path in ROUTES if method == "GET"),
    "/v2/models/binary-model", "/v2/models/binary-model/ready",
    "/v2/models/binary-model/versions/7", "/v2/models/binary-model/versions/7/ready",
]  # fmt: skip
OUTPUTS = ("probability_0", "probability_1", "probability_2")


def count(client, name, **labels):
    """One number of /metrics; 0 when nothing was counted yet."""
    families = text_string_to_metric_families(client.get("/metrics").body.decode())
    samples = (sample for family in families for sample in family.samples)
    return next((s.value for s in samples if s.name == name and s.labels == labels), 0)


def test_every_page_is_there_and_says_who_answers(made, client):
    me = {"x-model-name": "binary-model", "x-model-version": "7",
          "x-model-digest": bundle.digest(made("lightgbm", "binary"))}  # fmt: skip
    for path in READ:
        for method in ("GET", "HEAD"):
            reply = client.send(method, path, b"", {})
            assert reply.status == 200
            assert me.items() <= reply.headers.items()


def test_another_method_is_a_405_that_names_the_right_one(client):
    for method in ("PUT", "OPTIONS", "BREW"):
        for path in [*READ, *POSTED]:
            reply = client.send(method, path, b"", {})
            assert reply.status == 405
            assert reply.headers["allow"] == ("POST" if path in POSTED else "GET")


def test_another_path_is_a_404_that_names_the_model(client):
    for path in ("/", "/predict/", "/Predict", "/v2/models/other/infer", "/..", "//predict",
                 "/v2/models/binary-model/versions/8"):  # fmt: skip
        reply = client.post(path, ROW)
        reason = f"{path}: no such path; the model is 'binary-model', see /docs"
        assert (reply.status, reply.error) == (404, reason)


def test_a_version_in_the_path_is_the_same_model(client):
    tensors = {"inputs": forms.tensors(bundles.frame(1))}
    replies = [
        client.post(f"/v2/models/binary-model{version}/infer", tensors)
        for version in ("", "/versions/7")
    ]
    assert replies[0].json["outputs"] == replies[1].json["outputs"]
    assert replies[0].json["model_version"] == "7"


@pytest.mark.parametrize(
    ("identity", "kept"),
    [("a", True), ("7f.B-2_x:9", True), ("x" * 128, True), ("", False), ("x" * 129, False),
     ("a b", False), ("a\r\nx: y", False), ("\xe9", False), ("a\n", False)],
)  # fmt: skip
def test_a_request_keeps_the_id_it_came_with_or_gets_one(client, identity, kept):
    for body in (ROW, {}):
        reply = client.post("/predict", body, {"X-Request-Id": identity})
        assert reply.headers["x-request-id"] == reply.json["id"]
        assert (reply.json["id"] == identity) == kept


# A token for tests, and no secret.
WORD = "a-word-among-tests"


@pytest.fixture(scope="module")
def guarded(made, serve):
    return serve(made("lightgbm", "binary"), token=WORD)


@pytest.mark.parametrize(
    "given",
    [None, "", "Bearer", "Bearer ", f"Bearer {WORD}x", f"Basic {WORD}", WORD, "Bearer \xe9"],
)
def test_without_the_token_nothing_is_said(guarded, given):
    headers = {} if given is None else {"Authorization": given}
    for path in {*READ, *POSTED, "/nowhere"} - OPEN:
        reply = guarded.send("POST" if path in POSTED else "GET", path, b"", headers)
        assert reply.status == 401
        assert reply.headers["www-authenticate"] == "Bearer"
        assert reply.error == "authorization: expected the bearer token"


def test_with_the_token_rows_are_scored_and_probes_need_none(guarded):
    for scheme in ("Bearer", "bearer"):
        headers = {"Authorization": f"{scheme} {WORD}"}
        assert guarded.post("/predict", ROW, headers).status == 200
        assert guarded.send("GET", "/nowhere", b"", headers).status == 404
    assert {guarded.get(path).status for path in OPEN} == {200}


def test_a_service_that_stops_lives_but_is_not_ready(made, serve):
    client = serve(made("lightgbm", "binary"))
    client.app.service.stopping = True
    assert client.get("/v2/health/live").status == 200
    for path in ("/ping", "/health", "/v2/health/ready", "/v2/models/binary-model/ready"):
        assert client.get(path).status == 503
    reply = client.post("/predict", ROW)
    assert (reply.status, reply.headers["connection"]) == (200, "close")


def test_unseen_categories_and_missing_numbers_are_counted_by_column(made, serve):
    client = serve(made("lightgbm", "binary"))
    frame = bundles.frame(3, missing=0).assign(words=["a", "new", "newer"], city="b")
    frame["z"] = np.array([np.nan, 1, np.nan], dtype="float32")
    assert client.post("/predict", forms.records(frame)).status == 200
    for name, column, expected in (("unseen_categories", "words", 2), ("missing_values", "z", 2),
                                   ("unseen_categories", "city", 0),
                                   ("missing_values", "numbers", 0)):  # fmt: skip
        assert count(client, f"mlops_{name}_total", column=column) == expected
    digest = bundle.digest(made("lightgbm", "binary"))
    assert count(client, "mlops_rows_total", digest=digest) == 3


def test_scores_are_counted_by_tenth_and_requests_by_route_and_status(made, serve):
    client = serve(made("lightgbm", "multiclass"))
    frame = bundles.frame(50)
    reply = client.post("/predict", forms.records(frame))
    client.post("/predict", {})
    scores = np.array([row["probabilities"] for row in reply.json["predictions"]])
    for place in range(3):
        tenths = np.clip(scores[:, place] * 10, 0, 9).astype(int)
        for tenth in range(10):
            counted = count(client, "mlops_scores_total", output=f"probability_{place}",
                            tenth=f"{tenth / 10:.1f}")  # fmt: skip
            assert counted == (tenths == tenth).sum()
    assert count(client, "mlops_requests_total", route="predict", status="200") == 1
    assert count(client, "mlops_requests_total", route="predict", status="422") == 1


def test_a_decision_is_at_the_bundles_threshold_and_a_class_is_the_likeliest(made, serve, client):
    rows = forms.records(bundles.frame(50))
    for row in client.post("/predict", rows).json["predictions"]:
        assert row["decision"] == (row["probability"] >= 0.5)
    for row in serve(made("linear", "multiclass")).post("/predict", rows).json["predictions"]:
        assert row["class"] == int(np.argmax(row["probabilities"]))
        assert sum(row["probabilities"]) == pytest.approx(1)


def test_the_card_is_shown_as_it_is(made, client):
    folder = made("lightgbm", "binary")
    card = json.loads((folder / bundle.CARD).read_text())
    assert client.get("/model").json == {**card, "digest": bundle.digest(folder), "version": "7"}


@pytest.mark.parametrize("task", ["binary", "multiclass"])
def test_a_model_that_has_no_finite_answer_says_null_and_decides_nothing(made, serve, task):
    """A linear model of numbers near the end of float32: inf less inf is no number."""
    client = serve(made("linear", task))
    row = ROW | dict.fromkeys(bundles.NUMBERS, 3.4e38)
    frame = bundles.frame(1).assign(**row)
    none, outputs = {"probability": None, "decision": None}, ["probability"]
    if task == "multiclass":
        none, outputs = {"probabilities": [None] * 3, "class": None}, list(OUTPUTS)
    assert client.post("/predict", row).json["predictions"] == [none]
    assert client.post("/invocations", {"inputs": [row]}).json == {
        "predictions": [dict.fromkeys(outputs)]
    }
    answer = client.post(f"/v2/models/{task}-model/infer", {"inputs": forms.tensors(frame)}).json
    assert [output["data"] for output in answer["outputs"]] == [[None]] * len(outputs)


@pytest.mark.parametrize("rows", [1, 300])
def test_rows_without_a_finite_answer_are_counted_as_scored_and_fail_nobody(made, serve, rows):
    """Nor those whose rows are scored with them, or wait behind them."""
    folder = made("linear", "binary")
    client = serve(folder)
    extreme = [ROW | dict.fromkeys(bundles.NUMBERS, 3.4e38)] * rows
    replies = client.at_once("/predict", [extreme, [ROW], [ROW | {"z": 1e39}], extreme, [ROW]])
    assert [reply.status for reply in replies] == [200, 200, 422, 200, 200]
    assert count(client, "mlops_rows_total", digest=bundle.digest(folder)) == 2 * rows + 2
    scored = [
        count(client, "mlops_scores_total", output="probability", tenth=f"{tenth / 10:.1f}")
        for tenth in range(10)
    ]
    assert sum(scored) == 2


def test_what_fails_to_be_counted_is_answered_all_the_same(made, serve):
    client = serve(made("linear", "binary"))

    def fail(*run):
        raise RuntimeError("no count")

    client.app.service.scorer.observe = fail
    for bodies in ([[ROW]] * 3, [[ROW], [ROW | {"z": 1e39}], [ROW]], [[ROW] * 300]):
        replies = client.at_once("/predict", bodies)
        assert [reply.status for reply in replies] == [
            422 if {"z": 1e39}.items() <= body[0].items() else 200 for body in bodies
        ]
