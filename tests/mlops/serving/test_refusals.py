"""What is wrong with a request is said in one line that names row and column; never a 5xx."""

import json

import pytest

from tests.mlops.serving import bundles, forms
from tests.mlops.serving.forms import LENGTH, SIZE

ROW = {"words": "a", "numbers": 1.5, "z": None, "city": "b", "höhe": 2, "numbers_0": -3.0}
NAMES, VALUES = [*ROW], [*ROW.values()]
INFER = "/v2/models/binary-model/infer"
PREDICT, INVOKE = "/predict", "/invocations"


def without(name):
    return {key: value for key, value in ROW.items() if key != name}


def split(rows, columns=NAMES):
    return {"dataframe_split": {"columns": columns, "data": rows}}


def with_value(place, value):
    return [*VALUES[:place], value, *VALUES[place + 1 :]]


def tensors(**changes):
    """The row as tensors, one of them changed: `numbers={"shape": [2]}`."""
    listed = [
        {"name": name, "shape": [1], "datatype": "BYTES" if name in bundles.WORDS else "FP32",
         "data": [value], **changes.get(name, {})} for name, value in ROW.items()
    ]  # fmt: skip
    return {"inputs": listed}


def as_columns(**changes):
    return {"inputs": {name: [value] for name, value in ROW.items()} | changes}


DEEP = b"[" * 100_000 + b"]" * 100_000
WRONG = [
    # The body as such.
    (PREDICT, b"", 400, "body: Input data was truncated"),
    (PREDICT, b'{"words": ', 400, "body: Input data was truncated"),
    (PREDICT, b"{'words': 1}", 400,
     "body: JSON is malformed: object keys must be strings (byte 1)"),
    (PREDICT, b'{"words": "\xff"}', 400, "body: not UTF-8: invalid start byte"),
    (PREDICT, DEEP, 422, "[0]: found array, expected object"),
    (INVOKE, b'{"params": ' + DEEP + b"}", 400, "body: nested too deeply"),
    (INFER, b'{"inputs": [], "parameters": {"a": ' + DEEP + b"}}", 400, "body: nested too deeply"),
    (PREDICT, 3, 422, "body: found number, expected object"),
    (PREDICT, [], 422, "body: found no rows"),
    # Records.
    (PREDICT, without("city"), 422, "body: column 'city': missing"),
    (PREDICT, [ROW, without("city")], 422, "[1]: column 'city': missing"),
    (PREDICT, {**ROW, "citi": 1}, 422, "body: unknown column 'citi'; did you mean 'city'?"),
    (PREDICT, [ROW, {**ROW, "x" * 90: 1}], 422, f"[1]: unknown column '{'x' * 80}'…"),
    (PREDICT, {**ROW, "numbers": "1"}, 422, "numbers: found string, expected number or null"),
    (PREDICT, [ROW, {**ROW, "city": 5}], 422, "[1].city: found number, expected string or null"),
    (PREDICT, {**ROW, "z": 1e39}, 422, "row 0, column 'z': found a number beyond float32"),
    (PREDICT, {**ROW, "z": 10**400}, 422, "z: Number out of range"),
    # MLflow's forms.
    (INVOKE, {}, 422,
     "body: found none, expected one of dataframe_split, dataframe_records, instances, inputs"),
    (INVOKE, {"instance": [ROW]}, 422, "body: Object contains unknown field `instance`"),
    (INVOKE, {"instances": [VALUES]}, 422, "instances[0]: found array, expected object"),
    (INVOKE, {"instances": [ROW, without("z")]}, 422, "instances[1]: column 'z': missing"),
    (INVOKE, {"dataframe_records": [{**ROW, "z": "1"}]}, 422,
     "dataframe_records[0].z: found string, expected number or null"),
    (INVOKE, {"dataframe_split": {"columns": NAMES}}, 422,
     "dataframe_split: Object missing required field `data`"),
    (INVOKE, split([]), 422, "body: found no rows"),
    (INVOKE, split([VALUES], [*NAMES, "z"]), 422, "dataframe_split.data: column 'z': given twice"),
    (INVOKE, split([VALUES], NAMES[1:]), 422, "dataframe_split.data: column 'words': missing"),
    (INVOKE, split([VALUES], ["Words", *NAMES[1:]]), 422,
     "dataframe_split.data: unknown column 'Words'; did you mean 'words'?"),
    (INVOKE, split([VALUES, VALUES[:5]]), 422,
     "dataframe_split.data[1]: Expected `array` of length 6"),
    (INVOKE, split([VALUES, with_value(2, "x")]), 422,
     "dataframe_split.data[1].z: found string, expected number or null"),
    (INVOKE, as_columns(z=["1"]), 422, "inputs.z[0]: found string, expected number or null"),
    (INVOKE, as_columns(z=[1, 2]), 422, "inputs.z: found 2 rows, expected 1 as in 'numbers'"),
    (INVOKE, as_columns(y=[1]), 422, "inputs: unknown column 'y'"),
    (INVOKE, {"inputs": {"z": [1]}}, 422, "inputs: column 'numbers': missing"),
    # Tensors.
    (INFER, {}, 422, "body: Object missing required field `inputs`"),
    (INFER, {"inputs": []}, 422, "inputs: column 'numbers': missing"),
    (INFER, {"inputs": tensors()["inputs"] * 2}, 422, "inputs: column 'numbers': given twice"),
    (INFER, tensors(z={"name": "y"}), 422, "inputs: unknown column 'y'"),
    (INFER, tensors(z={"data": ["1"]}), 422,
     "inputs.z.data[0]: found string, expected number or null"),
    (INFER, tensors(z={"data": [1, 2]}), 422, "inputs.z: found 2 values, expected shape's 1"),
    (INFER, tensors(z={"shape": [2], "data": [1, 2]}), 422,
     "inputs.z: found 2 rows, expected 1 as in 'numbers'"),
    (INFER, tensors(z={"shape": [1, 2]}), 422,
     "inputs.z: found shape [1, 2], expected [rows] or [rows, 1]"),
    (INFER, tensors(z={"shape": [10**30]}), 413,
     f"body: found {10**30} rows, expected at most 10000"),
    (INFER, tensors(city={"datatype": "FP32"}), 422,
     "inputs.city: found datatype 'FP32', expected BYTES"),
    (INFER, tensors(z={"datatype": "BOOL", "data": [1]}), 422,
     "inputs.z.data[0]: found number, expected boolean or null"),
    (INFER, tensors(z={"parameters": {SIZE: 4}}), 422, f"inputs.z: found both data and {SIZE}"),
    (INFER, tensors() | {"id": "x" * 129}, 422, "id: found 129 characters, expected at most 128"),
    (INFER, tensors() | {"outputs": [{"name": "label"}]}, 422,
     "outputs: found 'label', expected one of probability"),
    (INFER, tensors() | {"outputs": [{"name": "probability"}] * 2}, 422,
     "outputs: found 2, expected each once"),
    (INFER, tensors() | {"outputs": [{"name": "probability", "parameters": {"binary_data": "no"}}]},
     422, "outputs[0].parameters.binary_data: found string, expected boolean or null"),
]  # fmt: skip
HEAD = ",".join(NAMES)
WRONG_CSV = [
    (b"", 400, "body: found nothing, expected a line of column names"),
    (HEAD.encode(), 422, "body: found no rows"),
    (b'"' + HEAD.encode(), 400, "body: not CSV in UTF-8: unexpected end of data"),
    (f"{HEAD}\na,1,2,b,3,4\nb,x,2,b,3,4".encode(), 422,
     "CSV row 1.numbers: found 'x', expected a number"),
    (f"{HEAD}\na,1_0,2,b,3,4".encode(), 422, "CSV row 0.numbers: found '1_0', expected a number"),
    (f"{HEAD}\na,inf,2,b,3,4".encode(), 422,
     "row 0, column 'numbers': found a number beyond float32"),
    (f"{HEAD}\na,1,2,b,3".encode(), 422, "CSV row 0: found 5 cells, expected 6"),
    (f"{HEAD},x\na,1,2,b,3,4,5".encode(), 422, "CSV: unknown column 'x'"),
    (f"{HEAD},z\na,1,2,b,3,4,5".encode(), 422, "CSV: column 'z': given twice"),
    (b"words,numbers\na,1", 422, "CSV: column 'z': missing"),
    (HEAD.encode() + b"\na,1,2," + b"b" * 200_000 + b",3,4", 400,
     "body: not CSV in UTF-8: field larger than field limit (131072)"),
]  # fmt: skip


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
    (packed(z={"parameters": {SIZE: True}}), 
     f"inputs[2].parameters.{SIZE}: found boolean, expected number or null"),
    (packed(z={"parameters": {}}), f"inputs.z: found neither data nor {SIZE}"),
    (of_bytes("z", b"\0" * 8), "inputs.z: found 8 bytes, expected 1 FP32"),
    (packed(z={"datatype": "FP16"}), "inputs.z: found 4 bytes, expected 1 FP16"),
    (packed(z={"shape": [9999]}), "inputs.z: found 4 bytes, expected 9999 FP32"),
    (of_bytes("city", b""), "inputs.city: row 0: cut short"),
    (of_bytes("city", b"\xff\xff\xff\xffab"), "inputs.city: row 0: cut short"),
    (of_bytes("city", b"\x01\0\0\0\xff"), "inputs.city: row 0: not UTF-8: invalid start byte"),
    (of_bytes("city", b"\x01\0\0\0a\0"), "inputs.city: found 6 bytes, expected 5"),
    (of_bytes("z", b"\0\0\x80\x7f"), "row 0, column 'z': found a number beyond float32"),
]  # fmt: skip


LENGTHS = [
    ("99999", f"{LENGTH}: found 99999 in a body of 597 bytes"),
    ("-1", f"{LENGTH}: expected a number of bytes"),
    ("0", "body: Input data was truncated"),
]


def behind(parts, extra=b""):
    """A request whose tensors follow the JSON part, and perhaps more."""
    head, content = parts
    return head + content + extra, {"Content-Type": forms.BINARY, LENGTH: str(len(head))}


ALL = [
    *((path, body, {}, status, message) for path, body, status, message in WRONG),
    *((INVOKE, body, {"Content-Type": forms.CSV}, status, message)
      for body, status, message in WRONG_CSV),
    *((INFER, *behind(parts), 422, message) for parts, message in WRONG_BINARY),
    *((INFER, behind(packed())[0], {LENGTH: length}, 400, message) for length, message in LENGTHS),
    (INFER, *behind(packed(), b"!"), 400, "body: found 1 bytes after the last tensor"),
    *((path, ROW, {"Content-Type": kind}, 415, message) for path, kind, message in [
        (PREDICT, "text/plain", "content-type: found 'text/plain', expected application/json"),
        (PREDICT, "text/csv", "content-type: found 'text/csv', expected application/json"),
        (INVOKE, "text/csv; charset=latin-1",
         "content-type: found 'charset=latin-1', expected charset=utf-8"),
        (PREDICT, "", "content-type: found '', expected application/json"),
    ]),
    (PREDICT, ROW, {"Content-Encoding": "gzip"}, 415, "content-encoding: expected identity"),
]  # fmt: skip


@pytest.mark.parametrize(("path", "body", "headers", "status", "message"), ALL)
def test_a_wrong_request_is_answered_with_the_place_and_the_reason(
    client, path, body, headers, status, message
):
    reply = client.post(path, body, headers)
    assert reply.status == status, reply.body
    assert reply.headers["content-type"] == forms.JSON
    assert set(reply.json) == {"error", "id"}
    assert "\n" not in reply.error
    assert reply.error == message


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


def test_too_many_rows_are_a_413(made, serve):
    client = serve(made("lightgbm", "binary"), rows=10)
    for name, form in forms.forms("binary-model").items():
        sent = form(bundles.frame(11))
        reply = client.post(sent.path, sent.body, sent.headers)
        assert reply.status == 413
        found = "more than 10" if name == "csv" else "11"
        assert reply.error == f"body: found {found} rows, expected at most 10"


def test_too_many_bytes_are_a_413_whether_said_or_not(made, serve):
    client = serve(made("lightgbm", "binary"), body=2000)
    for body in (b" " * 2001, [b" " * 100] * 30):
        reply = client.send("POST", PREDICT, body, {})
        assert (reply.status, reply.headers["connection"]) == (413, "close")
        found = 2001 if isinstance(body, bytes) else 2100
        assert reply.error == f"body: found {found} bytes, expected at most 2000"
