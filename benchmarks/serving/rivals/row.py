"""What the rivals share: the row as a pydantic model, and the bundle's model in ONNX Runtime."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from pydantic import BaseModel, create_model

# Where a rival's process finds the bundle.
VARIABLE = "BENCHMARK_BUNDLE"


class Prediction(BaseModel):
    """The answer to one row."""

    probability: float


class Model:
    """The bundle's own `model.onnx`: one thread, an input for each column."""

    def __init__(self) -> None:
        folder = Path(os.environ[VARIABLE])
        columns = json.loads((folder / "bundle.json").read_text())["inputs"]
        self.kinds: dict[str, str] = {column["name"]: column["type"] for column in columns}
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(
            (folder / "model.onnx").read_bytes(), options, providers=["CPUExecutionProvider"]
        )

    @property
    def row(self) -> type[BaseModel]:
        """A pydantic class with a field for each column."""
        types = {"float": float | None, "string": str | None}
        fields: dict[str, Any] = {name: (types[kind], ...) for name, kind in self.kinds.items()}
        return create_model("Row", **fields)

    def predict(self, row: BaseModel) -> Prediction:
        """Score one row."""
        feeds = {
            name: np.array([value], dtype=np.float32)
            if self.kinds[name] == "float"
            else strings([value])
            for name, value in row
        }
        return Prediction(probability=float(self.session.run(None, feeds)[0][0]))


def strings(values: list[str | None]) -> np.ndarray[Any, np.dtype[Any]]:
    """A column of strings, (rows,); a missing one is empty."""
    return np.array([value or "" for value in values], dtype=object)
