"""What is wrong with a request is message in one line that names row and column; never a 5xx."""

import json

import pytest

from tests.mlops.serving import bundles, forms
from tests.mlops.serving.forms import LENGTH, SIZE
from tests.mlops.serving.wrong import (
    INFER,
    INVOKE,
    NAMES,
    PREDICT,
    ROW,
    VALUES,
    WRONG,
    split,
    tensors,
)


@pytest.mark.parametrize(("path", "body", "status", "message"), WRONG)
def test_a_wrong_request_is_answered_with_the_place_and_the_reason(
    client, path, body, status, message
):
    reply = client.post(path, body)
    assert reply.status == status, reply.body
    assert reply.headers["content-type"] == forms.JSON
    assert set(reply.json) == {"error", "id"}
    assert "\n" not in reply.error
    if message:
        assert reply.error == message


HEAD = ",".join(NAMES)
WRONG_CSV = [
    (b"", 400, "body: found nothing, expected a line of column names"),
    (b"\n\n\n", 400, "body: found nothing, expected a line of column names"),
    (HEAD.encode(), 422, "body: found no rows"),
    (b"\xff\xfe", 400, None),
    (b'"' + HEAD.encode(), 400, "body: not CSV in UTF-8: unexpected end of data"),
    (f"{HEAD}\na,1,2,b,3,4\nb,x,2,b,3,4".encode(), 422,
     "CSV row 1.numbers: found 'x', expected a number"),
    (f"{HEAD}\na,1_0,2,b,3,4".encode(), 422, "CSV row 0.numbers: found '1_0', expected a number"),
    (f"{HEAD}\na,٣,2,b,3,4".encode(), 422, "CSV row 0.numbers: found '٣', expected a number"),
    (f"{HEAD}\na,inf,2,b,3,4".encode(), 422,
     "row 0, column 'numbers': found a number beyond float32"),
    (f"{HEAD}\na,1,2,b,3".encode(), 422, "CSV row 0: found 5 cells, expected 6"),
    (f"{HEAD},x\na,1,2,b,3,4,5".encode(), 422, "CSV: unknown column 'x'"),
    (f"{HEAD},z\na,1,2,b,3,4,5".encode(), 422, "CSV: column 'z': given twice"),
    (b"words,numbers\na,1", 422, "CSV: column 'z': missing"),
    (HEAD.encode() + b"\na,1,2," + b"b" * 200_000 + b",3,4", 400,
     "body: not CSV in UTF-8: field larger than field limit (131072)"),
]  # fmt: skip


@pytest.mark.parametrize(("body", "status", "message"), WRONG_CSV)
def test_wrong_csv_is_answered_with_the_place_and_the_reason(client, body, status, message):
    reply = client.post(INVOKE, body, {"Content-Type": forms.CSV})
    assert reply.status == status, reply.body
    assert message is None or reply.error == message


def packed(**changes):
    """The row as binary tensors, one of them changed; the JSON part and what follows it."""
    listed = tensors()["inputs"]
    content = []
    for tensor in listed:
        data = b"\x01\0\0\0a" if tensor["datatype"] == "BYTES" else b"\0\0\x80\x3f"
        content.append(changes.get("bytes", {}).get(tensor["name"], data))
        del tensor["data"]
        tensor["parameters"] = {SIZE: len(content[-1])}
        tensor.update(changes.get(tensor["name"], {}))
    return json.dumps({"inputs": listed}).encode(), b"".join(content)


def of_bytes(name, content):
    return packed(bytes={name: content})


WRONG_BINARY = [
    (packed(z={"parameters": {SIZE: 99}}), f"inputs.z: found {SIZE} 99, 17 bytes are left"),
    (packed(z={"parameters": {SIZE: -1}}), None),
    (packed(z={"parameters": {SIZE: True}}), 
     f"inputs[2].parameters.{SIZE}: found boolean, expected number or null"),
    (packed(z={"parameters": {SIZE: "4"}}), None),
    (packed(z={"parameters": {}}), f"inputs.z: found neither data nor {SIZE}"),
    (of_bytes("z", b"\0" * 8), "inputs.z: found 8 bytes, expected 1 FP32"),
    (of_bytes("z", b""), "inputs.z: found 0 bytes, expected 1 FP32"),
    (packed(z={"datatype": "FP65"}), None),
    (packed(z={"datatype": "FP16"}), "inputs.z: found 4 bytes, expected 1 FP16"),
    (packed(z={"shape": [9999]}), "inputs.z: found 4 bytes, expected 9999 FP32"),
    (of_bytes("city", b""), "inputs.city: row 0: cut short"),
    (of_bytes("city", b"\x01\0"), "inputs.city: row 0: cut short"),
    (of_bytes("city", b"\xff\xff\xff\xffab"), "inputs.city: row 0: cut short"),
    (of_bytes("city", b"\x01\0\0\0\xff"), "inputs.city: row 0: not UTF-8: invalid start byte"),
    (of_bytes("city", b"\x01\0\0\0a\0"), "inputs.city: found 6 bytes, expected 5"),
    (of_bytes("z", b"\0\0\x80\x7f"), "row 0, column 'z': found a number beyond float32"),
]  # fmt: skip


@pytest.mark.parametrize(("parts", "message"), WRONG_BINARY)
def test_wrong_tensors_behind_the_json_are_answered_with_the_place_and_the_reason(
    client, parts, message
):
    head, content = parts
    headers = {"Content-Type": forms.BINARY, LENGTH: str(len(head))}
    reply = client.post(INFER, head + content, headers)
    assert reply.status == 422, reply.body
    assert message is None or reply.error == message


@pytest.mark.parametrize(
    ("length", "message"),
    [
        ("99999", f"{LENGTH}: found 99999 in a body of"),
        ("-1", f"{LENGTH}: expected a number of bytes"),
        ("x", f"{LENGTH}: expected a number of bytes"),
        ("9" * 5000, f"{LENGTH}: "),
        ("0", "body: Input data was truncated"),
    ],
)
def test_a_wrong_length_of_the_json_part_is_refused(client, length, message):
    head, content = packed()
    reply = client.post(INFER, head + content, {"Content-Type": forms.BINARY, LENGTH: length})
    assert reply.status == 400, reply.body
    assert reply.error.startswith(message)


def test_bytes_after_the_last_tensor_are_refused(client):
    head, content = packed()
    reply = client.post(INFER, head + content + b"!", {LENGTH: str(len(head))})
    assert (reply.status, reply.error) == (400, "body: found 1 bytes after the last tensor")


def test_what_a_client_sent_is_said_back_in_so_many_words(client):
    """Not megabytes of it, and no nearest name is looked for."""
    long = "x" * 1_000_000
    for path, body in [
        (PREDICT, {**ROW, long: 1}),
        (INVOKE, split([VALUES], [long])),
        (INFER, tensors(z={"name": long})),
        (INFER, tensors(z={"datatype": long})),
        (INFER, tensors(z={"shape": [1] * 100_000})),
        (INFER, tensors() | {"outputs": [{"name": long}]}),
    ]:
        reply = client.post(path, body)
        assert reply.status == 422
        assert len(reply.body) < 1000


@pytest.mark.parametrize(
    ("path", "kind", "message"),
    [
        (PREDICT, "text/plain", "content-type: found 'text/plain', expected application/json"),
        (PREDICT, "text/csv", "content-type: found 'text/csv', expected application/json"),
        (INVOKE, "application/xml", None),
        (INFER, "text/csv", None),
        (PREDICT, "", "content-type: found '', expected application/json"),
    ],
)
def test_another_content_type_is_a_415(client, path, kind, message):
    reply = client.post(path, ROW, {"Content-Type": kind})
    assert reply.status == 415
    assert message is None or reply.error == message


def test_a_compressed_body_is_a_415(client):
    reply = client.post(PREDICT, ROW, {"Content-Encoding": "gzip"})
    assert (reply.status, reply.error) == (415, "content-encoding: expected identity")


@pytest.fixture(scope="module")
def narrow_limits(made, serve):
    return serve(made("lightgbm", "binary"), rows=10, body=2000)


@pytest.mark.parametrize("form", forms.FORMS)
def test_too_many_rows_are_a_413(made, serve, form):
    client = serve(made("lightgbm", "binary"), rows=10)
    sent = forms.forms("binary-model")[form](bundles.frame(11))
    reply = client.post(sent.path, sent.body, sent.headers)
    assert reply.status == 413
    found = "more than 10" if form == "csv" else "11"
    assert reply.error == f"body: found {found} rows, expected at most 10"


def test_too_many_bytes_are_a_413_whether_said_or_not(narrow_limits):
    body = b" " * 2001
    message = narrow_limits.post(PREDICT, body, {"Content-Length": "2001"})
    unsaid = narrow_limits.post(PREDICT, body)
    chunked = narrow_limits.send("POST", PREDICT, [b" " * 100] * 30, {})
    for reply in (message, unsaid, chunked):
        assert reply.status == 413
        assert reply.headers["connection"] == "close"
    assert message.error == "body: found 2001 bytes, expected at most 2000"


def test_a_body_in_chunks_is_scored(narrow_limits):
    body = json.dumps(ROW).encode()
    parts = [body[place : place + 1] for place in range(len(body))]
    whole = narrow_limits.post(PREDICT, ROW)
    assert (
        narrow_limits.send("POST", PREDICT, parts, {}).json["predictions"]
        == (whole.json["predictions"])
    )
    assert whole.status == 200
