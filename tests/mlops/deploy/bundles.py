"""Bundles made in a moment, some of which go wrong in one way each, once they serve."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pandas as pd
from onnx import TensorProto, helper

from mlops.contract import bundle
from mlops.registry.pin import Contents, Pin

ROWS = [{"x": float(x)} for x in np.linspace(-2, 2, 17)]
# Reference rows and trial rows do not come this far.
FAR = 5000.0


def says(slope: float, rows: list[dict[str, float]] = ROWS) -> list[float]:
    """What such a bundle answers: a logistic curve of one number."""
    return [float(1 / (1 + np.exp(-slope * row["x"]))) for row in rows]


def sound(folder: Path, slope: float) -> str:
    """Write one that says it; its digest."""
    nodes = [helper.make_node("Mul", ["x", "slope"], ["line"])]
    return _written(folder, slope, nodes, [])


def slow(folder: Path, slope: float, size: int = 1200) -> str:
    """One that says the same, after some multiplications of no consequence."""
    nodes = [
        # A constant would be folded away: this one hangs on an input's own row.
        helper.make_node("Slice", ["x", "zero", "one_row", "zero"], ["some"]),
        helper.make_node("Sub", ["some", "some"], ["first"]),
        helper.make_node("Expand", ["first", "shape"], ["big"]),
        helper.make_node("MatMul", ["big", "big"], ["one"]),
        helper.make_node("MatMul", ["one", "big"], ["two"]),
        helper.make_node("ReduceSum", ["two"], ["nought"], keepdims=0),
        helper.make_node("Add", ["x", "nought"], ["late"]),
        helper.make_node("Mul", ["late", "slope"], ["line"]),
    ]
    constants = [
        helper.make_tensor("shape", TensorProto.INT64, [2], [size, size]),
        helper.make_tensor("zero", TensorProto.INT64, [1], [0]),
        helper.make_tensor("one_row", TensorProto.INT64, [1], [1]),
    ]
    return _written(folder, slope, nodes, constants)


def failing(folder: Path, slope: float) -> str:
    """One that says the same, and fails on numbers above FAR."""
    nodes = [
        helper.make_node("Greater", ["x", "far"], ["is_far"]),
        helper.make_node("Where", ["is_far", "missing", "there"], ["place"]),
        helper.make_node("Gather", ["table", "place"], ["nought"]),
        helper.make_node("Add", ["x", "nought"], ["same"]),
        helper.make_node("Mul", ["same", "slope"], ["line"]),
    ]
    constants = [
        helper.make_tensor("far", TensorProto.FLOAT, [], [FAR]),
        helper.make_tensor("missing", TensorProto.INT64, [], [10]),
        helper.make_tensor("there", TensorProto.INT64, [], [0]),
        helper.make_tensor("table", TensorProto.FLOAT, [1], [0.0]),
    ]
    return _written(folder, slope, nodes, constants)


def pin(digest: str, version: int = 1) -> Pin:
    """A pin of a bundle, the rest of it made up."""
    return Pin(
        model="small", version=version, digest=digest, evidence="e" * 64, run="r", commit="c" * 40,
        data="d" * 64, dvc=Contents(bundle="0" * 32 + ".dir", evidence="1" * 32 + ".dir"),
        metrics={},
    )  # fmt: skip


def _written(folder: Path, slope: float, nodes: list[Any], constants: list[Any]) -> str:
    """A bundle whose nodes make the curve's `line` of `x`."""
    folder.mkdir(parents=True)
    x = np.linspace(-2, 2, 40, dtype=np.float32)
    column = [TensorProto.FLOAT, [None]]
    graph = helper.make_graph(
        [*nodes, helper.make_node("Sigmoid", ["line"], ["probability"])], "small",
        [helper.make_tensor_value_info("x", *column)],
        [helper.make_tensor_value_info("probability", *column)],
        [helper.make_tensor("slope", TensorProto.FLOAT, [], [slope]), *constants],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, folder / bundle.MODEL)
    said = 1 / (1 + np.exp(-slope * x))
    pd.DataFrame({"x": x, "prediction": said}).to_parquet(folder / bundle.REFERENCE)
    bundle.write_card(folder, {
        "name": "small", "task": "binary", "target": "y", "classes": 2,
        "inputs": [{"name": "x", "type": "float", "unit": ""}], "example": {"x": 0.5},
        "outputs": ["probability"], "threshold": 0.5, "family": "linear",
        "hyperparameters": {"slope": slope}, "trained_on": {}, "parity": 0.0, "hashes": {},
    })  # fmt: skip
    return bundle.digest(folder)
