"""Clients of other projects, in an environment of their own: `NAME URL MODEL < rows.json`.

Rows are read as lists by column name, outputs are printed in the same form.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any
from urllib.request import Request, urlopen

import numpy as np

Columns = dict[str, list[Any]]


def triton(url: str, model: str, rows: Columns, binary: bool = True) -> Columns:
    import tritonclient.http as http

    client = http.InferenceServerClient(url.removeprefix("http://"))
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready(model)
    assert "binary_tensor_data" in client.get_server_metadata()["extensions"]
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


def triton_json(url: str, model: str, rows: Columns) -> Columns:
    return triton(url, model, rows, binary=False)


def triton_refused(url: str, model: str, rows: Columns) -> Columns:
    """A wrong request is the client's own exception, with the service's reason."""
    import tritonclient.http as http
    from tritonclient.utils import InferenceServerException

    client = http.InferenceServerClient(url.removeprefix("http://"))
    tensor = http.InferInput("nothing", [1], "FP32")
    tensor.set_data_from_numpy(np.zeros(1, np.float32))
    try:
        client.infer(model, [tensor])
    except InferenceServerException as error:
        return {"status": [error.status()], "message": [error.message()]}
    raise AssertionError("not refused")


def kserve(url: str, model: str, rows: Columns) -> Columns:
    return asyncio.run(_kserve(url, model, rows, binary=False))


def kserve_binary(url: str, model: str, rows: Columns) -> Columns:
    return asyncio.run(_kserve(url, model, rows, binary=True))


async def _kserve(url: str, model: str, rows: Columns, binary: bool) -> Columns:
    from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig

    client = InferenceRESTClient(RESTConfig(protocol="v2"))
    assert await client.is_server_live(url)
    assert await client.is_server_ready(url)
    assert await client.is_model_ready(url, model)
    inputs = []
    for name, values in rows.items():
        words = isinstance(values[0], str)
        array = np.array(values, dtype=object if words else np.float32)
        tensor = InferInput(name, list(array.shape), "BYTES" if words else "FP32")
        tensor.set_data_from_numpy(array, binary_data=binary)
        inputs.append(tensor)
    request = InferRequest(model, inputs, request_id="42")
    answer = await client.infer(url, request, model_name=model)
    assert (answer.id, answer.model_name) == ("42", model)
    return {output.name: output.as_numpy().tolist() for output in answer.outputs}


def mlserver(url: str, model: str, rows: Columns) -> Columns:
    """MLServer's own encoding of a data frame, and of an answer."""
    from mlserver.codecs import PandasCodec
    from mlserver.types import InferenceResponse, MetadataModelResponse, MetadataServerResponse

    def call(path: str, body: bytes | None = None) -> bytes:
        headers = {"Content-Type": "application/json"}
        with urlopen(Request(f"{url}{path}", body, headers)) as answer:
            return bytes(answer.read())

    MetadataServerResponse.model_validate_json(call("/v2"))
    MetadataModelResponse.model_validate_json(call(f"/v2/models/{model}"))
    asked = PandasCodec.encode_request(_frame(rows), use_bytes=False).model_dump_json()
    answer = call(f"/v2/models/{model}/infer", asked.encode())
    frame = PandasCodec.decode_response(InferenceResponse.model_validate_json(answer))
    return {name: frame[name].tolist() for name in frame}


def _frame(rows: Columns) -> Any:
    """MLServer knows no other strings of pandas than objects."""
    import pandas as pd

    frame = pd.DataFrame(rows)
    return frame.astype({n: object for n, values in rows.items() if isinstance(values[0], str)})


CLIENTS = {
    client.__name__: client
    for client in (triton, triton_json, triton_refused, kserve, kserve_binary, mlserver)
}

if __name__ == "__main__":
    name, url, model = sys.argv[1:]
    print(json.dumps(CLIENTS[name](url, model, json.load(sys.stdin))))
