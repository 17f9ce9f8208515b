"""Requests that are wrong: where to, what, and the status and the reason that are due."""

from __future__ import annotations

import json

from tests.mlops.serving import bundles
from tests.mlops.serving.forms import SIZE

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
    (PREDICT, b" ", 400, "body: Input data was truncated"),
    (PREDICT, b'{"words": ', 400, "body: Input data was truncated"),
    (PREDICT, b"{'words': 1}", 400,
     "body: JSON is malformed: object keys must be strings (byte 1)"),
    (PREDICT, b"\xff\xfe{", 400, "body: JSON is malformed: invalid character (byte 0)"),
    (PREDICT, b'{"words": "\xff"}', 400, "body: not UTF-8: invalid start byte"),
    (PREDICT, b'{"\xff": "a"}', 400, "body: not UTF-8: invalid start byte"),
    (PREDICT, b'{"words": "\\ud800"}', 400,
     "body: Input data was truncated"),
    (PREDICT, DEEP, 422, "[0]: found array, expected object"),
    (INVOKE, b'{"params": ' + DEEP + b"}", 400, "body: nested too deeply"),
    (INFER, b'{"inputs": [], "parameters": {"a": ' + DEEP + b"}}", 400, "body: nested too deeply"),
    (PREDICT, json.dumps(ROW).encode() + b"x", 400, None),
    (PREDICT, 3, 422, "body: found number, expected object"),
    (PREDICT, None, 422, "body: found null, expected object"),
    (PREDICT, [], 422, "body: found no rows"),
    # Records.
    (PREDICT, without("city"), 422, "body: column 'city': missing"),
    (PREDICT, [ROW, without("city")], 422, "[1]: column 'city': missing"),
    (PREDICT, {**ROW, "citi": 1}, 422, "body: unknown column 'citi'; did you mean 'city'?"),
    (PREDICT, [ROW, {**ROW, "x" * 90: 1}], 422, f"[1]: unknown column '{'x' * 80}'…"),
    (PREDICT, {**ROW, "numbers": "1"}, 422, "numbers: found string, expected number or null"),
    (PREDICT, {**ROW, "numbers": True}, 422, "numbers: found boolean, expected number or null"),
    (PREDICT, [ROW, {**ROW, "city": 5}], 422, "[1].city: found number, expected string or null"),
    (PREDICT, {**ROW, "city": {}}, 422, "city: found object, expected string or null"),
    (PREDICT, {**ROW, "z": 1e39}, 422, "row 0, column 'z': found a number beyond float32"),
    (PREDICT, {**ROW, "z": 10**400}, 422, "body: Number out of range - at `$.z`"),
    (PREDICT, {**ROW, "z": float("inf")}, 422, "row 0, column 'z': found a number beyond float32"),
    (PREDICT, [ROW, {**ROW, "z": float("-inf")}], 422,
     "row 1, column 'z': found a number beyond float32"),
    (PREDICT, {**ROW, "höhe": []}, 422, "höhe: found array, expected number or null"),
    # MLflow's forms.
    (INVOKE, {}, 422,
     "body: found none, expected one of dataframe_split, dataframe_records, instances, inputs"),
    (INVOKE, {"instances": [ROW], "inputs": [ROW]}, 422, None),
    (INVOKE, {"instance": [ROW]}, 422, "body: Object contains unknown field `instance`"),
    (INVOKE, [ROW], 422, "body: found array, expected object"),
    (INVOKE, {"instances": []}, 422, "body: found no rows"),
    (INVOKE, {"instances": [VALUES]}, 422, "instances[0]: found array, expected object"),
    (INVOKE, {"instances": [ROW, without("z")]}, 422, "instances[1]: column 'z': missing"),
    (INVOKE, {"dataframe_records": [{**ROW, "z": "1"}]}, 422,
     "dataframe_records[0].z: found string, expected number or null"),
    (INVOKE, split([VALUES]) | {"dataframe_split": 3}, 422,
     "dataframe_split: found number, expected object"),
    (INVOKE, {"dataframe_split": {"columns": NAMES}}, 422,
     "body: Object missing required field `data` - at `$.dataframe_split`"),
    (INVOKE, split([]), 422, "body: found no rows"),
    (INVOKE, split([VALUES], [*NAMES, "z"]), 422, "dataframe_split.data: column 'z': given twice"),
    (INVOKE, split([VALUES], NAMES[1:]), 422, "dataframe_split.data: column 'words': missing"),
    (INVOKE, split([VALUES], ["Words", *NAMES[1:]]), 422,
     "dataframe_split.data: unknown column 'Words'; did you mean 'words'?"),
    (INVOKE, split([VALUES], [1]), 422,
     "dataframe_split.columns[0]: found number, expected string"),
    (INVOKE, split([VALUES, VALUES[:5]]), 422,
     "dataframe_split.data[1]: found 5 values, expected 6"),
    (INVOKE, split([VALUES, with_value(2, "x")]), 422,
     "dataframe_split.data[1].z: found string, expected number or null"),
    (INVOKE, split([with_value(3, 1)]), 422,
     "dataframe_split.data[0].city: found number, expected string or null"),
    (INVOKE, split([with_value(2, float("inf"))]), 422,
     "row 0, column 'z': found a number beyond float32"),
    (INVOKE, split({"a": 1}), 422, "dataframe_split.data: found object, expected array"),
    (INVOKE, as_columns(z=["1"]), 422, "inputs.z[0]: found string, expected number or null"),
    (INVOKE, as_columns(z=[1, 2]), 422, "inputs.z: found 2 rows, expected 1 as in 'numbers'"),
    (INVOKE, as_columns(y=[1]), 422, "inputs: unknown column 'y'"),
    (INVOKE, {"inputs": {"z": [1]}}, 422, "inputs: column 'numbers': missing"),
    (INVOKE, as_columns(z={}), 422, "inputs.z[0]: found object, expected number or null"),
    # Tensors.
    (INFER, {}, 422, "body: Object missing required field `inputs`"),
    (INFER, {"inputs": []}, 422, "inputs: column 'numbers': missing"),
    (INFER, {"inputs": tensors()["inputs"] * 2}, 422, "inputs: column 'numbers': given twice"),
    (INFER, tensors(z={"name": "y"}), 422, "inputs: unknown column 'y'"),
    (INFER, tensors(z={"name": 3}), 422, "inputs[2].name: found number, expected string"),
    (INFER, tensors(z={"data": ["1"]}), 422,
     "inputs.z.data[0]: found string, expected number or null"),
    (INFER, tensors(z={"data": [1, 2]}), 422, "inputs.z: found 2 values, expected shape's 1"),
    (INFER, tensors(z={"shape": [2], "data": [1, 2]}), 422,
     "inputs.z: found 2 rows, expected 1 as in 'numbers'"),
    (INFER, tensors(z={"shape": [1, 2]}), 422,
     "inputs.z: found shape [1, 2], expected [rows] or [rows, 1]"),
    (INFER, tensors(z={"shape": []}), 422, None),
    (INFER, tensors(z={"shape": [-1]}), 422, None),
    (INFER, tensors(z={"shape": [10**30]}), 413,
     f"body: found {10**30} rows, expected at most 10000"),
    (INFER, tensors(z={"shape": [1, 1], "data": [[1, 2]]}), 422,
     "inputs.z.data[0]: found array, expected number or null"),
    (INFER, tensors(z={"datatype": "BYTES"}), 422, None),
    (INFER, tensors(city={"datatype": "FP32"}), 422,
     "inputs.city: found datatype 'FP32', expected BYTES"),
    (INFER, tensors(z={"datatype": "BOOL", "data": [1]}), 422,
     "inputs.z.data[0]: found number, expected boolean or null"),
    (INFER, tensors(z={"parameters": {SIZE: 4}}), 422, f"inputs.z: found both data and {SIZE}"),
    (INFER, tensors(z={"parameters": []}), 422,
     "inputs[2].parameters: found array, expected object or null"),
    (INFER, tensors(z={"data": [float("-inf")]}), 422,
     "row 0, column 'z': found a number beyond float32"),
    (INFER, tensors() | {"id": 5}, 422, "id: found number, expected string or null"),
    (INFER, tensors() | {"outputs": [{"name": "label"}]}, 422,
     "outputs: found 'label', expected one of probability"),
    (INFER, tensors() | {"outputs": [{"name": "probability"}] * 2}, 422,
     "outputs: found 2, expected each once"),
    (INFER, tensors() | {"parameters": {"binary_data_output": 1}}, 422,
     "parameters.binary_data_output: found number, expected boolean or null"),
    (INFER, tensors() | {"outputs": [{"name": "probability", "parameters": {"binary_data": "no"}}]},
     422, "outputs[0].parameters.binary_data: found string, expected boolean or null"),
]  # fmt: skip
