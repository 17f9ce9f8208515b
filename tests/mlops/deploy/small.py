"""Bundles small enough to be made in a moment, and their pins."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pandas as pd
from onnx import TensorProto, helper

from mlops.contract import bundle
from mlops.registry.pin import Contents, Pin


def made(folder: Path, slope: float) -> str:
    """Write a bundle whose probability is a logistic curve of two numbers; its digest."""
    folder.mkdir(parents=True)
    x = np.linspace(-2, 2, 40, dtype=np.float32)
    z = np.tile(np.float32([0.0, 0.5]), 20)
    nodes = [
        helper.make_node("Mul", ["x", "slope"], ["line"]),
        helper.make_node("Add", ["line", "z"], ["sum"]),
        helper.make_node("Sigmoid", ["sum"], ["probability"]),
    ]
    graph = helper.make_graph(
        nodes, "small",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["rows"]) for name in ("x", "z")],
        [helper.make_tensor_value_info("probability", TensorProto.FLOAT, ["rows"])],
        [helper.make_tensor("slope", TensorProto.FLOAT, [], [slope])],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, folder / bundle.MODEL)
    said = 1 / (1 + np.exp(-slope * x - z))
    pd.DataFrame({"x": x, "z": z, "prediction": said}).to_parquet(folder / bundle.REFERENCE)
    bundle.write_card(folder, {
        "name": "small", "task": "binary", "target": "y", "classes": 2,
        "inputs": [{"name": name, "type": "float", "unit": ""} for name in ("x", "z")],
        "example": {"x": 0.5, "z": 0.0},
        "outputs": ["probability"], "threshold": 0.5, "family": "linear",
        "hyperparameters": {"slope": slope}, "trained_on": {}, "parity": 0.0, "hashes": {},
    })  # fmt: skip
    return bundle.digest(folder)


def pin(digest: str, version: int = 1, model: str = "small") -> Pin:
    """A pin of a bundle, the rest of it made up."""
    return Pin(
        model=model, version=version, digest=digest, evidence="e" * 64, run="r", commit="c" * 40,
        data="d" * 64, dvc=Contents(bundle="0" * 32 + ".dir", evidence="1" * 32 + ".dir"),
        metrics={},
    )  # fmt: skip
