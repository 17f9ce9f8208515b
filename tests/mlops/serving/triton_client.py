"""Triton's own client, in its environment: `URL MODEL < rows.json`.

Rows are read as lists by column name. Prints the outputs of a binary and of a JSON request in the
same form, and how the client raises a refusal.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import numpy as np
import tritonclient.http as http
from tritonclient.utils import InferenceServerException

Columns = dict[str, list[Any]]


def infer(client: http.InferenceServerClient, model: str, rows: Columns, binary: bool) -> Columns:
    known = client.get_model_metadata(model)
    inputs = []
    for tensor in known["inputs"]:
        words = tensor["datatype"] == "BYTES"
        array = np.array(rows[tensor["name"]], dtype=object if words else np.float32)
        inputs.append(http.InferInput(tensor["name"], list(array.shape), tensor["datatype"]))
        inputs[-1].set_data_from_numpy(array, binary_data=binary)
    names = [output["name"] for output in known["outputs"]]
    outputs = [http.InferRequestedOutput(name, binary_data=binary) for name in names]
    answer = client.infer(model, inputs, outputs=outputs, request_id="42")
    assert answer.get_response()["id"] == "42"
    return {name: answer.as_numpy(name).tolist() for name in names}


def refused(client: http.InferenceServerClient, model: str) -> list[str]:
    tensor = http.InferInput("nothing", [1], "FP32")
    tensor.set_data_from_numpy(np.zeros(1, np.float32))
    try:
        client.infer(model, [tensor])
    except InferenceServerException as error:
        return [error.status(), error.message()]
    raise AssertionError("not refused")


if __name__ == "__main__":
    url, model = sys.argv[1:]
    client, rows = http.InferenceServerClient(url.removeprefix("http://")), json.load(sys.stdin)
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready(model)
    assert "binary_tensor_data" in client.get_server_metadata()["extensions"]
    answers = [infer(client, model, rows, binary) for binary in (True, False)]
    print(json.dumps([*answers, refused(client, model)]))
