"""The Open Inference Protocol: types of tensors, outputs by name, ids, tensors behind the JSON."""

import numpy as np
import pytest

from mlops.contract import bundle
from mlops.serving.inference import NUMERIC
from tests.mlops.serving import bundles, forms
from tests.mlops.serving.forms import LENGTH
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
    sent = forms.packed("multiclass-model", datatype)(frame)
    for body, headers in (({"inputs": tensors}, None), (sent.body, sent.headers)):
        found = probabilities(client.post(INFER, body, headers))
        assert (found == scored(folder, frame)).all()


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


def test_a_request_may_say_more_than_we_know(client):
    inputs = forms.tensors(bundles.frame(1))
    for tensor in inputs:
        tensor |= {"parameters": {"content_type": "np"}, "comment": "unknown"}
    reply = client.post(INFER, {"inputs": inputs, "sequence_id": 3, "outputs": []})
    assert reply.status == 200
    assert reply.json["id"] == reply.headers["x-request-id"]
