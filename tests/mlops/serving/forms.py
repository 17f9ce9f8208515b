"""A frame's rows in every form that a client may send them in."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from mlops.serving.inference import NUMERIC

JSON = "application/json"
BINARY = "application/octet-stream"
CSV = "text/csv"
LENGTH = "Inference-Header-Content-Length"
SIZE = "binary_data_size"


@dataclass(frozen=True)
class Sent:
    """A request: path, body, headers."""

    path: str
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)


Form = Callable[[pd.DataFrame], Sent]


def encoded(content: Any) -> bytes:
    return json.dumps(content).encode()


def decoded(content: bytes) -> Any:
    return json.loads(content)


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows as JSON has them: null where a number is missing."""
    plain = frame.astype(object).where(frame.notna(), None)
    return [{str(name): row[name] for name in frame} for row in plain.to_dict("records")]


def columns(frame: pd.DataFrame) -> dict[str, list[Any]]:
    rows = records(frame)
    return {str(name): [row[name] for row in rows] for name in frame}


def _json(path: str, content: Any) -> Sent:
    return Sent(path, encoded(content), {"Content-Type": JSON})


def plain(frame: pd.DataFrame) -> Sent:
    return _json("/predict", records(frame))


def dataframe_split(frame: pd.DataFrame) -> Sent:
    rows = [list(row.values()) for row in records(frame)]
    return _json("/invocations", {"dataframe_split": {"columns": [*frame], "data": rows}})


def dataframe_split_of_pandas(frame: pd.DataFrame) -> Sent:
    """As MLflow's client sends it: with the index, and NaN where a number is missing."""
    return _json("/invocations", {"dataframe_split": frame.to_dict(orient="split"), "params": {}})


def dataframe_records(frame: pd.DataFrame) -> Sent:
    return _json("/invocations", {"dataframe_records": records(frame)})


def instances(frame: pd.DataFrame) -> Sent:
    return _json("/invocations", {"instances": records(frame)})


def inputs_as_records(frame: pd.DataFrame) -> Sent:
    return _json("/invocations", {"inputs": records(frame)})


def inputs_as_columns(frame: pd.DataFrame) -> Sent:
    return _json("/invocations", {"inputs": columns(frame), "params": {"temperature": 1}})


def inputs_as_one_record(frame: pd.DataFrame) -> Sent:
    """Of a single row MLflow takes the record as it is."""
    return _json("/invocations", {"inputs": records(frame)[0]})


def csv(frame: pd.DataFrame) -> Sent:
    # Nine digits tell every float32 from its neighbours.
    text = frame.to_csv(index=False, float_format="%.9g")
    return Sent("/invocations", text.encode(), {"Content-Type": f"{CSV}; charset=utf-8"})


def tensors(frame: pd.DataFrame, nested: bool = False) -> list[dict[str, Any]]:
    """A tensor for each column, (rows,) or (rows, 1)."""
    return [
        {
            "name": name,
            "datatype": "BYTES" if frame[name].dtype == object else "FP32",
            "shape": [len(values), 1] if nested else [len(values)],
            "data": [[value] for value in values] if nested else values,
        }
        for name, values in columns(frame).items()
    ]


def infer(model: str) -> str:
    return f"/v2/models/{model}/infer"


def v2(model: str, nested: bool = False) -> Form:
    return lambda frame: _json(infer(model), {"inputs": tensors(frame, nested)})


def packed(model: str, datatype: str = "FP32", wanted: dict[str, Any] | None = None) -> Form:
    """Tensors behind the JSON, as the binary extension has them.

    Of another type than FP32 only the numbers lie there, with the shape (rows, 1).
    """
    kind, nested = np.dtype(NUMERIC[datatype]).newbyteorder("<"), datatype != "FP32"

    def form(frame: pd.DataFrame) -> Sent:
        listed, content = tensors(frame, nested), []
        for tensor in listed:
            values, words = frame[tensor["name"]], tensor["datatype"] == "BYTES"
            if words and nested:
                continue
            content.append(_words(values) if words else values.to_numpy().astype(kind).tobytes())
            del tensor["data"]
            tensor["parameters"] = {SIZE: len(content[-1])}
            tensor["datatype"] = "BYTES" if words else datatype
        head = encoded({"inputs": listed, **(wanted or {})})
        headers = {"Content-Type": BINARY, LENGTH: str(len(head))}
        return Sent(infer(model), b"".join([head, *content]), headers)

    return form


def _words(values: pd.Series[Any]) -> bytes:
    encoded = [word.encode() for word in values]
    return b"".join(struct.pack("<I", len(word)) + word for word in encoded)


def forms(model: str) -> dict[str, Form]:
    """Every form by its name."""
    return {
        "predict": plain,
        "dataframe_split": dataframe_split,
        "dataframe_split of pandas": dataframe_split_of_pandas,
        "dataframe_records": dataframe_records,
        "instances": instances,
        "inputs as records": inputs_as_records,
        "inputs as columns": inputs_as_columns,
        "csv": csv,
        "v2": v2(model),
        "v2 (rows, 1)": v2(model, nested=True),
        "v2 binary": packed(model),
        "v2 binary doubles": packed(model, "FP64"),
    }


FORMS = tuple(forms(""))
