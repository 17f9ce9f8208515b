"""Ask the service in version 2 of the Open Inference Protocol, with Triton's own client.

    pip install --require-hashes -r examples/triton.lock

MLOPS_SERVING_URL says where the service is, MLOPS_SERVING_TOKEN its token.
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
# A missing value: numbers may be NaN, words empty.
KINDS = {"FP32": (np.float32, np.nan), "BYTES": (np.object_, "")}


def card() -> dict[str, object]:
    """What the bundle says of itself: its name, and a real row of the training data."""
    with urlopen(Request(f"{URL}/model", headers=HEADERS), timeout=30) as answer:
        return dict(json.load(answer))


def tensor(name: str, datatype: str, values: list[object]) -> InferInput:
    """One column, (rows,), in binary."""
    kind, missing = KINDS[datatype]
    column = np.array([missing if value is None else value for value in values], dtype=kind)
    made = InferInput(name, [len(column)], datatype)
    made.set_data_from_numpy(column)
    return made


def main() -> None:
    about = card()
    name, rows = str(about["name"]), [about["example"]] * 3
    client = InferenceServerClient(URL.split("//")[1])
    metadata = client.get_model_metadata(name, headers=HEADERS)
    inputs = [
        tensor(column["name"], column["datatype"], [row[column["name"]] for row in rows])
        for column in metadata["inputs"]
    ]
    outputs = [InferRequestedOutput(column["name"]) for column in metadata["outputs"]]
    found = client.infer(name, inputs, headers=HEADERS, outputs=outputs)
    scores = {one["name"]: found.as_numpy(one["name"]).tolist() for one in metadata["outputs"]}
    print(json.dumps(scores))


if __name__ == "__main__":
    main()
