"""The service does what its OpenAPI document says, and the document says what it does."""

import subprocess
from pathlib import Path

import jsonschema
import numpy as np
import pytest

from mlops.serving import openapi
from tests.mlops.serving import bundles, forms
from tests.mlops.serving.test_app import READ
from tests.served import served

HERE = Path(__file__).parent


@pytest.fixture(scope="module", params=bundles.TASKS)
def client(request, made, serve):
    return serve(made("lightgbm", request.param))


@pytest.fixture(scope="module")
def document(client):
    return client.get("/openapi.json").json


def schema_of(document, content):
    """A schema of the document, whole in itself."""
    return {**content["application/json"]["schema"], "components": document["components"]}


def check(document, schema, value):
    jsonschema.Draft202012Validator(schema_of(document, schema)).validate(value)


def posts(document):
    return {path: what["post"] for path, what in document["paths"].items() if "post" in what}


def test_every_page_is_described_and_every_described_page_is_there(client, document):
    described = {path for path, what in document["paths"].items() if "get" in what}
    own = {path for path in described if path.startswith("/v2/models/")}
    served = {path for path in READ if not path.startswith("/v2/models/")}
    assert described - own == served
    assert len(own) == 2
    for path in described:
        assert client.get(path).status == 200


def test_every_example_is_of_its_schema_and_is_answered_as_described(client, document):
    for path, operation in posts(document).items():
        content = operation["requestBody"]["content"]
        for kind, body in content.items():
            if "example" not in body:
                continue
            if kind == forms.JSON:
                check(document, content, body["example"])
            sent = body["example"] if kind == forms.JSON else body["example"].encode()
            reply = client.post(path, sent, {"Content-Type": kind})
            assert reply.status == 200, reply.body
            check(document, operation["responses"]["200"]["content"], reply.json)


@pytest.mark.parametrize("form", forms.FORMS)
def test_every_form_is_of_its_schema_and_is_answered_as_described(client, document, form):
    name = client.app.service.endpoint.name
    sent = forms.forms(name)[form](bundles.frame(20))
    operation = posts(document)[sent.path]
    reply = client.post(sent.path, sent.body, sent.headers)
    check(document, operation["responses"]["200"]["content"], reply.json)
    if sent.headers["Content-Type"] == forms.JSON:
        plain = forms.decoded(sent.body.replace(b"NaN", b"null"))
        check(document, operation["requestBody"]["content"], plain)


def test_what_the_schema_refuses_is_refused(client, document):
    row = forms.records(bundles.frame(1))[0]
    content = posts(document)["/predict"]["requestBody"]["content"]
    for wrong in ({**row, "x": 1}, {**row, "z": "1"}, {**row, "city": 1}, [], [{}], 3,
                  {**row, "z": np.nextafter(openapi.LARGEST, np.inf)}):  # fmt: skip
        with pytest.raises(jsonschema.ValidationError):
            check(document, content, wrong)
        assert client.post("/predict", wrong).status == 422
    for right in (openapi.LARGEST, -openapi.LARGEST, None, 5e-324):
        check(document, content, {**row, "z": right})
        assert client.post("/predict", {**row, "z": right}).status == 200


def test_a_refusal_is_as_described(client, document):
    for path, operation in posts(document).items():
        for body, kind in [(b"{", forms.JSON), ([], forms.JSON), (b"", "text/html")]:
            reply = client.post(path, body, {"Content-Type": kind})
            content = operation["responses"][str(reply.status)]["content"]
            check(document, content, reply.json)


def test_names_and_rows_are_shown_as_they_are_and_the_span_of_the_training_may_be_absent(
    tmp_path, serve
):
    rows = bundles.frame()
    card = bundles.card(rows, "linear", "regression")
    card |= {"target": "<script>alert(1)</script>", "trained_on": {}}
    card["example"]["city"] = "</textarea>"
    model = bundles.exported("linear", "regression", rows)
    client = serve(bundles.write(tmp_path / "bundle", model, card, rows))
    assert "linear trained." in client.get("/openapi.json").json["info"]["description"]
    page = client.get("/docs").body.decode()
    assert "<script>alert" not in page
    assert page.count("</textarea>") == 1


@pytest.mark.slow
@pytest.mark.nightly
def test_schemathesis_finds_nothing(made, programs, tmp_path):
    """All checks of a tool for services with an OpenAPI document, which makes bodies from it."""
    with served(made("lightgbm", "multiclass"), tmp_path) as service:
        done = subprocess.run(
            [programs(HERE / "schemathesis.lock") / "st", "--config-file",
             HERE / "schemathesis.toml", "run", f"{service.url}/openapi.json", "--max-examples=40",
             "--seed=1", "--no-color", "--generation-database=none"],
            capture_output=True, text=True, check=False, cwd=tmp_path,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout
        assert service.count("mlops_requests_total") > 150
