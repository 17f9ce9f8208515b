"""Score rows over the Open Inference Protocol, version 2, with Triton's client.

    pip install --require-hashes -r examples/triton.lock

MLOPS_SERVING_URL is the service's address, MLOPS_SERVING_TOKEN its bearer token.
"""

from __future__ import annotations

import json
import os
from urllib.request import Request, urlopen

import numpy as np
from tritonclient.http import InferenceServerClient, InferInput, InferRequestedOutput

URL = os.environ.get("MLOPS_SERVING_URL", "http://127.0.0.1:8080")
TOKEN = os.environ.get("MLOPS_SERVING_TOKEN")
HEADERS = {"authorization": f"Bearer {TOKEN}"} if TOKEN else {}
# By data type: NumPy's type, and the value that stands for a missing one.
KINDS = {"FP32": (np.float32, np.nan), "BYTES": (np.object_, "")}


def card() -> dict[str, object]:
    """Return the bundle's description: its name, a row of the training data, and more."""
    with urlopen(Request(f"{URL}/model", headers=HEADERS), timeout=30) as answer:
        return dict(json.load(answer))


def column_tensor(name: str, datatype: str, values: list[object]) -> InferInput:
    """Return one column, shape (rows,), in the binary format."""
    kind, missing = KINDS[datatype]
    column = np.array([missing if value is None else value for value in values], dtype=kind)
    tensor = InferInput(name, [len(column)], datatype)
    tensor.set_data_from_numpy(column)
    return tensor


def main() -> None:
    about = card()
    name, rows = str(about["name"]), [about["example"]] * 3
    client = InferenceServerClient(URL.split("//")[1])
    metadata = client.get_model_metadata(name, headers=HEADERS)
    inputs = [
        column_tensor(column["name"], column["datatype"], [row[column["name"]] for row in rows])
        for column in metadata["inputs"]
    ]
    outputs = [InferRequestedOutput(column["name"]) for column in metadata["outputs"]]
    result = client.infer(name, inputs, headers=HEADERS, outputs=outputs)
    scores = {
        column["name"]: result.as_numpy(column["name"]).tolist() for column in metadata["outputs"]
    }
    print(json.dumps(scores))


if __name__ == "__main__":
    main()
