"""Answers are of the schemas that the Open Inference Protocol publishes.

Written after specification/protocol/open_inference_rest.yaml of
https://github.com/kserve/open-inference-protocol (version 2.0), to which the binary extension
adds that `data` is absent where `binary_data_size` stands.
"""

import jsonschema
import pytest

from tests.mlops.serving import bundles, forms

TEXT = {"type": "string"}
PARAMETERS = {"type": "object"}


def record(required, **optional):
    return {"type": "object", "properties": required | optional, "required": list(required)}


def listed(items):
    return {"type": "array", "items": items}


SCALAR = [{"type": kind} for kind in ("number", "string", "boolean")]
DATA = listed({"anyOf": [*SCALAR, listed({"anyOf": SCALAR})]})
SHAPE = listed({"type": "integer"})
DATATYPES = {"enum": ["BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32",
                      "INT64", "FP16", "FP32", "FP64", "BYTES"]}  # fmt: skip
SERVER = record({"name": TEXT, "version": TEXT, "extensions": listed(TEXT)})
TENSOR = record({"name": TEXT, "datatype": DATATYPES, "shape": SHAPE})
MODEL = record(
    {"name": TEXT, "platform": TEXT},
    versions=listed(TEXT), inputs=listed(TENSOR), outputs=listed(TENSOR),
)  # fmt: skip
REQUEST = record(
    {"inputs": listed(record(
        {"name": TEXT, "shape": SHAPE, "datatype": DATATYPES, "data": DATA},
        parameters=PARAMETERS,
    ))},
    id=TEXT, parameters=PARAMETERS, outputs=listed(record({"name": TEXT}, parameters=PARAMETERS)),
)  # fmt: skip
OUTPUT = record(
    {"name": TEXT, "shape": SHAPE, "datatype": DATATYPES, "data": DATA}, parameters=PARAMETERS
)
RESPONSE = record(
    {"model_name": TEXT, "outputs": listed(OUTPUT)},
    model_version=TEXT, id=TEXT, parameters=PARAMETERS,
)  # fmt: skip
PACKED = record({
    "name": TEXT, "shape": SHAPE, "datatype": DATATYPES,
    "parameters": record({forms.SIZE: {"type": "integer"}}),
})  # fmt: skip
ERROR = record({"error": TEXT})


@pytest.fixture(scope="module", params=bundles.TASKS)
def service(request, made, serve):
    """A service and its model's path."""
    client = serve(made("xgboost", request.param), version="3")
    return client, f"/v2/models/{request.param}-model"


def check(value, schema):
    jsonschema.Draft202012Validator(schema).validate(value)


@pytest.mark.parametrize("path", ["/v2", "/v2/"])
def test_the_servers_metadata(service, path):
    client, _ = service
    check(client.get(path).json, SERVER)


@pytest.mark.parametrize("version", ["", "/versions/3"])
def test_the_models_metadata(service, version):
    client, model = service
    answer = client.get(f"{model}{version}").json
    check(answer, MODEL)
    assert answer["versions"] == ["3"]


@pytest.mark.parametrize("version", ["", "/versions/3"])
@pytest.mark.parametrize("nested", [False, True])
def test_a_request_of_the_schema_has_an_answer_of_the_schema(service, version, nested):
    client, model = service
    frame = bundles.frame(4, missing=0)
    body = {"id": "42", "inputs": forms.tensors(frame, nested), "parameters": {"a": [1, {}]}}
    check(body, REQUEST)
    reply = client.post(f"{model}{version}/infer", body)
    assert reply.status == 200
    check(reply.json, RESPONSE)
    names = [output["name"] for output in client.get(model).json["outputs"]]
    assert [output["name"] for output in reply.json["outputs"]] == names
    assert all(len(output["data"]) == output["shape"][0] for output in reply.json["outputs"])


def test_tensors_behind_the_json_are_announced(service):
    client, model = service
    body = {"inputs": forms.tensors(bundles.frame(4)), "parameters": {"binary_data_output": True}}
    reply = client.post(f"{model}/infer", body)
    length = int(reply.headers[forms.LENGTH.lower()])
    head = forms.decoded(reply.body[:length])
    for output in head["outputs"]:
        check(output, PACKED)
        assert "data" not in output
    sizes = [output["parameters"][forms.SIZE] for output in head["outputs"]]
    assert length + sum(sizes) == len(reply.body)


@pytest.mark.parametrize(
    "body", [b"", b"{", [], {}, {"inputs": []}, {"inputs": [{"name": "a"}]}, {"inputs": 3}]
)
def test_a_wrong_request_has_an_error_of_the_schema(service, body):
    client, model = service
    reply = client.post(f"{model}/infer", body)
    assert 400 <= reply.status < 500
    check(reply.json, ERROR)
    check(client.post("/v2/models/none/infer", body).json, ERROR)
    check(client.get("/v2/models/none").json, ERROR)


def test_a_request_needs_nothing_but_inputs_and_may_say_more_than_we_know(service):
    client, model = service
    inputs = forms.tensors(bundles.frame(1))
    for tensor in inputs:
        tensor |= {"parameters": {"content_type": "np"}, "comment": "unknown"}
    body = {"inputs": inputs, "sequence_id": 3, "outputs": []}
    assert client.post(f"{model}/infer", body).status == 200
