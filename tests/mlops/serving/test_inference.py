"""The Open Inference Protocol: types of tensors, outputs by name, ids, tensors behind the JSON.

Schemas are those of specification/protocol/open_inference_rest.yaml of
https://github.com/kserve/open-inference-protocol (version 2.0), to which the binary extension
adds that `data` is absent where `binary_data_size` stands.
"""

import jsonschema
import numpy as np
import pytest

from mlops.contract import bundle
from mlops.serving.inference import NUMERIC
from tests.mlops.serving import bundles, forms
from tests.mlops.serving.forms import LENGTH, SIZE
from tests.mlops.serving.test_forms import scored, unpacked

INFER = "/v2/models/multiclass-model/infer"
OUTPUTS = ["probability_0", "probability_1", "probability_2"]
TYPES = sorted(NUMERIC)


@pytest.fixture(scope="module")
def folder(made):
    return made("lightgbm", "multiclass")


@pytest.fixture(scope="module")
def client(folder, serve):
    return serve(folder, version="12")


def whole(rows, datatype):
    """Rows whose numbers every type can hold."""
    frame = bundles.frame(rows, missing=0)
    random = np.random.default_rng(3)
    for name in bundles.NUMBERS:
        frame[name] = random.integers(0, 2 if datatype == "BOOL" else 100, rows).astype("float32")
    return frame


def probabilities(reply):
    assert reply.status == 200, reply.body
    return np.column_stack([output["data"] for output in reply.json["outputs"]])


@pytest.mark.parametrize("datatype", TYPES)
def test_numbers_of_every_type_are_read_from_json_and_from_bytes(client, folder, datatype):
    frame = whole(5, datatype)
    tensors = forms.tensors(frame)
    for tensor in tensors:
        if tensor["datatype"] != "BYTES":
            kind = bool if datatype == "BOOL" else float if datatype.startswith("FP") else int
            tensor.update(datatype=datatype, data=[kind(value) for value in tensor["data"]])
    sent = packed(frame, np.dtype(NUMERIC[datatype]).newbyteorder("<"), datatype)
    for body, headers in (({"inputs": tensors}, None), (sent.body, sent.headers)):
        found = probabilities(client.post(INFER, body, headers))
        assert (found == scored(folder, frame)).all()


def packed(frame, kind, datatype):
    named, content = [], []
    for name in frame:
        if name in bundles.WORDS:
            tensor = next(one for one in forms.tensors(frame) if one["name"] == name)
            named.append(tensor)
            continue
        content.append(frame[name].to_numpy().astype(kind).tobytes())
        named.append({"name": name, "shape": [len(frame), 1], "datatype": datatype,
                      "parameters": {SIZE: len(content[-1])}})  # fmt: skip
    head = forms.encoded({"inputs": named})
    return forms.Sent(INFER, head + b"".join(content), {LENGTH: str(len(head))})


def test_the_answer_names_the_model_its_version_its_digest_and_the_request(client, folder):
    body = {"inputs": forms.tensors(bundles.frame(2))}
    answer = client.post(INFER, body | {"id": "42"}).json
    outputs = answer.pop("outputs")
    shown = [(output["name"], output["datatype"], output["shape"]) for output in outputs]
    assert shown == [(name, "FP32", [2]) for name in OUTPUTS]
    assert answer == {
        "model_name": "multiclass-model", "model_version": "12", "id": "42",
        "parameters": {"digest": bundle.digest(folder)},
    }  # fmt: skip


def test_a_request_without_an_id_is_answered_with_the_one_it_was_given(client):
    reply = client.post(INFER, {"inputs": forms.tensors(bundles.frame(1))})
    assert reply.json["id"] == reply.headers["x-request-id"]


@pytest.mark.parametrize("names", [["probability_2"], ["probability_1", "probability_0"], []])
def test_outputs_come_as_they_were_asked_for(client, folder, names):
    frame = bundles.frame(4)
    asked = [{"name": name} for name in names]
    reply = client.post(INFER, {"inputs": forms.tensors(frame), "outputs": asked})
    places = [OUTPUTS.index(name) for name in names or OUTPUTS]
    assert (probabilities(reply) == scored(folder, frame)[:, places]).all()


BINARY = {"parameters": {"binary_data_output": True}}
ALL_BINARY = {"outputs": [{"name": n, "parameters": {"binary_data": True}} for n in OUTPUTS]}


@pytest.mark.parametrize("wanted", [BINARY, ALL_BINARY])
@pytest.mark.parametrize("binary", [False, True])
def test_outputs_come_as_bytes_where_that_is_asked_for(client, folder, binary, wanted):
    frame = bundles.frame(6)
    if binary:
        sent = forms.packed("multiclass-model", wanted=wanted)(frame)
        reply = client.post(INFER, sent.body, sent.headers)
    else:
        reply = client.post(INFER, {"inputs": forms.tensors(frame), **wanted})
    assert reply.headers["content-type"] == forms.BINARY
    assert (np.column_stack(list(unpacked(reply).values())) == scored(folder, frame)).all()


def test_some_outputs_come_as_bytes_and_others_as_json(client, folder):
    frame = bundles.frame(6)
    as_json = {"parameters": {"binary_data": False}}
    asked = [{"name": "probability_2"}, {"name": "probability_0", **as_json}]
    body = {"inputs": forms.tensors(frame), "outputs": asked, **BINARY}
    reply = client.post(INFER, body)
    length = int(reply.headers[LENGTH.lower()])
    head = forms.decoded(reply.body[:length])
    assert [sorted(output) for output in head["outputs"]] == [
        ["datatype", "name", "parameters", "shape"], ["data", "datatype", "name", "shape"]
    ]  # fmt: skip
    expected = scored(folder, frame)
    assert (np.frombuffer(reply.body[length:], "<f4") == expected[:, 2]).all()
    assert (np.array(head["outputs"][1]["data"]) == expected[:, 0]).all()


def test_metadata_names_columns_and_outputs_as_the_card_does(client):
    metadata = client.get("/v2/models/multiclass-model").json
    assert metadata["versions"] == ["12"]
    assert [(tensor["name"], tensor["datatype"]) for tensor in metadata["inputs"]] == [
        (name, "BYTES" if name in bundles.WORDS else "FP32") for name in bundles.COLUMNS
    ]
    assert [tensor["name"] for tensor in metadata["outputs"]] == OUTPUTS


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


def check(value, schema):
    jsonschema.Draft202012Validator(schema).validate(value)


@pytest.mark.parametrize("task", bundles.TASKS)
def test_metadata_answers_and_errors_are_of_the_published_schemas(made, serve, task):
    client, model = serve(made("xgboost", task), version="3"), f"/v2/models/{task}-model"
    for path in ("/v2", "/v2/"):
        check(client.get(path).json, SERVER)
    for path in (model, f"{model}/versions/3"):
        check(client.get(path).json, MODEL)
        for nested in (False, True):
            tensors = forms.tensors(bundles.frame(4, missing=0), nested)
            body = {"id": "42", "inputs": tensors, "parameters": {"a": [1, {}]}}
            check(body, REQUEST)
            reply = client.post(f"{path}/infer", body)
            assert reply.status == 200
            check(reply.json, RESPONSE)
    body = {"inputs": forms.tensors(bundles.frame(4)), "parameters": {"binary_data_output": True}}
    reply = client.post(f"{model}/infer", body)
    for output in forms.decoded(reply.body[: int(reply.headers[LENGTH.lower()])])["outputs"]:
        check(output, PACKED)
    check(client.post(f"{model}/infer", {"inputs": 3}).json, ERROR)
    check(client.get("/v2/models/none").json, ERROR)


def test_a_request_may_say_more_than_we_know(client):
    inputs = forms.tensors(bundles.frame(1))
    for tensor in inputs:
        tensor |= {"parameters": {"content_type": "np"}, "comment": "unknown"}
    body = {"inputs": inputs, "sequence_id": 3, "outputs": []}
    assert client.post(INFER, body).status == 200
