"""Bundles made in a moment, some of which go wrong in one way each once they serve; their pins."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pandas as pd
from onnx import TensorProto, helper

from mlops.contract import bundle
from mlops.registry.pin import Contents, Pin

ROWS = [{"x": float(x)} for x in np.linspace(-2, 2, 17)]
# Beyond all reference rows.
FAR = 5000.0


def made(folder: Path, slope: float) -> str:
    """Write a bundle whose probability is a logistic curve of two numbers; its digest."""
    nodes = [
        helper.make_node("Mul", ["x", "slope"], ["product"]),
        helper.make_node("Add", ["product", "z"], ["line"]),
    ]
    return _write(folder, slope, nodes, two=True)


def sound(folder: Path, slope: float) -> str:
    """Write a bundle whose probability is a logistic curve of one number; its digest."""
    return _write(folder, slope, [helper.make_node("Mul", ["x", "slope"], ["line"])])


def slow(folder: Path, slope: float, size: int = 1200) -> str:
    """Write one that scores as `sound`, after some multiplications that change nothing."""
    nodes = [
        # A constant would be folded away: this depends on the input's first row.
        helper.make_node("Slice", ["x", "zero", "one_row", "zero"], ["some"]),
        helper.make_node("Sub", ["some", "some"], ["first"]),
        helper.make_node("Expand", ["first", "shape"], ["big"]),
        helper.make_node("MatMul", ["big", "big"], ["one"]),
        helper.make_node("MatMul", ["one", "big"], ["two"]),
        helper.make_node("ReduceSum", ["two"], ["nothing"], keepdims=0),
        helper.make_node("Add", ["x", "nothing"], ["late"]),
        helper.make_node("Mul", ["late", "slope"], ["line"]),
    ]
    constants = [
        _constant("shape", [size, size]),
        _constant("zero", [0]),
        _constant("one_row", [1]),
    ]
    return _write(folder, slope, nodes, constants)


def failing(folder: Path, slope: float) -> str:
    """Write one that scores as `sound`, and fails on numbers above FAR."""
    nodes = [
        helper.make_node("Greater", ["x", "far"], ["is_far"]),
        helper.make_node("Where", ["is_far", "missing", "there"], ["place"]),
        helper.make_node("Gather", ["table", "place"], ["nothing"]),
        helper.make_node("Add", ["x", "nothing"], ["same"]),
        helper.make_node("Mul", ["same", "slope"], ["line"]),
    ]
    constants = [_constant("far", FAR), _constant("missing", 10), _constant("there", 0),
                 _constant("table", [0.0])]  # fmt: skip
    return _write(folder, slope, nodes, constants)


def scores(slope: float, rows: list[dict[str, float]] = ROWS) -> list[float]:
    """The probabilities that every bundle of one number gives."""
    return [float(1 / (1 + np.exp(-slope * row["x"]))) for row in rows]


def pin(digest: str, version: int = 1, model: str = "small") -> Pin:
    """A pin of a bundle, the rest of it made up."""
    return Pin(
        model=model, version=version, digest=digest, evidence="e" * 64, run="r", commit="c" * 40,
        data="d" * 64, dvc=Contents(bundle="0" * 32 + ".dir", evidence="1" * 32 + ".dir"),
        metrics={},
    )  # fmt: skip


def _constant(name: str, value: Any) -> Any:
    array = np.array(value)
    return onnx.numpy_helper.from_array(
        array.astype(np.int64 if array.dtype.kind == "i" else np.float32), name
    )


def _write(
    folder: Path, slope: float, nodes: list[Any], constants: Sequence[Any] = (), two: bool = False
) -> str:
    """Write a bundle whose nodes compute the curve's `line`; its digest."""
    folder.mkdir(parents=True)
    table = pd.DataFrame({"x": np.linspace(-2, 2, 40, dtype=np.float32)})
    if two:
        table["z"] = np.tile(np.float32([0.0, 0.5]), 20)
    names = list(table)
    column = [TensorProto.FLOAT, [None]]
    graph = helper.make_graph(
        [*nodes, helper.make_node("Sigmoid", ["line"], ["probability"])], "small",
        [helper.make_tensor_value_info(name, *column) for name in names],
        [helper.make_tensor_value_info("probability", *column)],
        [_constant("slope", float(slope)), *constants],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, folder / bundle.MODEL)
    line = slope * table["x"] + (table["z"] if two else 0)
    table.assign(prediction=1 / (1 + np.exp(-line))).to_parquet(folder / bundle.REFERENCE)
    bundle.write_card(folder, {
        "name": "small", "task": "binary", "target": "y", "classes": 2,
        "inputs": [{"name": name, "type": "float", "unit": ""} for name in names],
        "example": {"x": 0.5, "z": 0.0} if two else {"x": 0.5},
        "outputs": ["probability"], "threshold": 0.5, "family": "linear",
        "hyperparameters": {"slope": slope}, "trained_on": {}, "parity": 0.0, "hashes": {},
    })  # fmt: skip
    return bundle.digest(folder)
