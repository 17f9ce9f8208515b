"""Bundles that go wrong in one way each, once they serve."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

from mlops.core import bundle
from tests.mlops.deploy import small

ROWS = [{"x": float(x)} for x in np.linspace(-2, 2, 17)]
# Reference rows and trial rows do not come this far.
FAR = 5000.0


def says(slope: float, rows: list[dict[str, float]] = ROWS) -> list[float]:
    """What a small bundle answers."""
    return [float(1 / (1 + np.exp(-slope * row["x"]))) for row in rows]


def slow(folder: Path, slope: float, size: int = 1200) -> str:
    """One that says the same, after some multiplications of no consequence."""
    nodes = [
        helper.make_node("ConstantOfShape", ["shape"], ["big"]),
        helper.make_node("MatMul", ["big", "big"], ["one"]),
        helper.make_node("MatMul", ["one", "big"], ["two"]),
        helper.make_node("ReduceSum", ["two"], ["nought"], keepdims=0),
        helper.make_node("Add", ["x", "nought"], ["late"]),
        helper.make_node("Mul", ["late", "slope"], ["line"]),
        helper.make_node("Sigmoid", ["line"], ["probability"]),
    ]
    # An empty shape's constant would be folded away: this one hangs on an input's own rows.
    nodes[0] = helper.make_node("Expand", ["first", "shape"], ["big"])
    head = [
        helper.make_node("Slice", ["x", "zero", "one_row", "zero"], ["some"]),
        helper.make_node("Sub", ["some", "some"], ["first"]),
    ]
    constants = [
        helper.make_tensor("slope", TensorProto.FLOAT, [], [slope]),
        helper.make_tensor("shape", TensorProto.INT64, [2], [size, size]),
        helper.make_tensor("zero", TensorProto.INT64, [1], [0]),
        helper.make_tensor("one_row", TensorProto.INT64, [1], [1]),
    ]
    return _with_model(folder, slope, head + nodes, constants)


def failing(folder: Path, slope: float) -> str:
    """One that says the same, and fails on numbers above FAR."""
    nodes = [
        helper.make_node("Greater", ["x", "far"], ["is_far"]),
        helper.make_node("Where", ["is_far", "missing", "there"], ["place"]),
        helper.make_node("Gather", ["table", "place"], ["nought"]),
        helper.make_node("Add", ["x", "nought"], ["same"]),
        helper.make_node("Mul", ["same", "slope"], ["line"]),
        helper.make_node("Sigmoid", ["line"], ["probability"]),
    ]
    constants = [
        helper.make_tensor("slope", TensorProto.FLOAT, [], [slope]),
        helper.make_tensor("far", TensorProto.FLOAT, [], [FAR]),
        helper.make_tensor("missing", TensorProto.INT64, [], [10]),
        helper.make_tensor("there", TensorProto.INT64, [], [0]),
        helper.make_tensor("table", TensorProto.FLOAT, [1], [0.0]),
    ]
    return _with_model(folder, slope, nodes, constants)


def _with_model(folder: Path, slope: float, nodes: list, constants: list) -> str:
    small.made(folder, slope)
    graph = helper.make_graph(
        nodes, "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None])],
        [helper.make_tensor_value_info("probability", TensorProto.FLOAT, [None])],
        constants,
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    card = bundle.read_card(folder).model_dump()
    card.pop("files")
    for name in (bundle.MODEL, bundle.CARD):
        (folder / name).unlink()
    onnx.save(model, folder / bundle.MODEL)
    bundle.write_card(folder, card)
    return bundle.digest(folder)
