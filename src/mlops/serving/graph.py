"""A bundle's graph with two inputs, a numeric and a categorical matrix, instead of one a column.

ONNX Runtime spends more time on taking thirty-nine inputs than on scoring a row. The bundle's
graph begins by making a matrix of its inputs; here the matrix is the input. Only nodes that copy
are removed, so the scores stay the same to the bit; `model.load` compares them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import onnx
from onnx import TensorProto, helper

NUMERIC = "numbers"
CATEGORICAL = "words"


def narrowed(model: bytes, numeric: Sequence[str], categorical: Sequence[str]) -> bytes:
    """The same graph, whose inputs are `NUMERIC` (rows, numeric columns) float32 and `CATEGORICAL`
    (rows, categorical columns) strings."""
    graph = onnx.load_from_string(model)
    body = graph.graph
    del body.input[:]
    for name, columns, kind in (
        (NUMERIC, numeric, TensorProto.FLOAT),
        (CATEGORICAL, categorical, TensorProto.STRING),
    ):
        if columns:
            shape: list[str | int | None] = ["rows", len(columns)]
            body.input.append(helper.make_tensor_value_info(name, kind, shape))
            _feed(body, name, columns)
    return bytes(graph.SerializeToString())


def _feed(body: Any, matrix: str, columns: Sequence[str]) -> None:
    """Rewire the nodes that read `columns`, (rows,) each, to read `matrix`."""
    produced = {node.input[0]: node for node in body.node if node.op_type == "Unsqueeze"}
    made = [produced[name].output[0] for name in columns]
    for merge in [n for n in body.node if n.op_type == "Concat" and list(n.input) == made]:
        # It makes the matrix itself.
        body.node.remove(merge)
        for node in body.node:
            for place, name in enumerate(node.input):
                if name == merge.output[0]:
                    node.input[place] = matrix
    for position, name in enumerate(columns):
        body.node.remove(produced[name])
        if any(made[position] in node.input for node in body.node):
            index = helper.make_tensor(f"{matrix}_{position}", TensorProto.INT64, [1], [position])
            body.initializer.append(index)
            pick = helper.make_node("Gather", [matrix, index.name], [made[position]], axis=1)
            body.node.insert(0, pick)
