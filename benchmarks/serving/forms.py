"""The forms that rows are sent in, and where each answer has its probabilities."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Row = dict[str, float | str | None]


@dataclass(frozen=True)
class Form:
    """A path, how rows become a request's body, and an answer its probabilities."""

    path: str
    body: Callable[[list[Row]], Any]
    probabilities: Callable[[Any], list[float]]

    def render(self, rows: list[Row]) -> bytes:
        """The whole request, ready to be written to a connection that is kept."""
        body = json.dumps(self.body(rows), separators=(",", ":")).encode()
        head = (
            f"POST {self.path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body


def _split(rows: list[Row]) -> Any:
    data = [list(row.values()) for row in rows]
    return {"dataframe_split": {"columns": list(rows[0]), "data": data}}


def _tensors(rows: list[Row]) -> Any:
    return {"inputs": [_tensor(name, [row[name] for row in rows]) for name in rows[0]]}


def _tensor(name: str, data: list[Any]) -> Any:
    kind = "BYTES" if any(isinstance(value, str) for value in data) else "FP32"
    return {"name": name, "shape": [len(data)], "datatype": kind, "data": data}


def mlflow() -> Form:
    """A table as MLflow takes it."""
    return Form(
        "/invocations", _split, lambda said: [row["probability"] for row in said["predictions"]]
    )


def inference(model: str) -> Form:
    """Version 2 of the protocol: a tensor for each column."""
    return Form(f"/v2/models/{model}/infer", _tensors, lambda said: said["outputs"][0]["data"])


def record() -> Form:
    """One record, as the service takes it."""
    return Form(
        "/predict", lambda rows: rows[0], lambda said: [said["predictions"][0]["probability"]]
    )


def plain() -> Form:
    """One record, as FastAPI takes it."""
    return Form("/predict", lambda rows: rows[0], lambda said: [said["probability"]])


def named() -> Form:
    """One record, as BentoML takes it: under its argument's name."""
    return Form("/predict", lambda rows: {"row": rows[0]}, lambda said: [said["probability"]])
