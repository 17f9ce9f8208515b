"""A bundle's graph with two inputs, a numeric and a categorical matrix, instead of one a column.

ONNX Runtime spends more time on taking thirty-nine inputs than on scoring a row. The exported graph
begins by making each column a matrix of one; here those come from one split of the whole matrix.
"""

from __future__ import annotations

from collections.abc import Sequence

import onnx
from onnx import TensorProto, helper

from mlops.contract.bundle import COLUMN_AXIS

NUMERIC = "numbers"
CATEGORICAL = "words"


def narrowed(model: bytes, numeric: Sequence[str], categorical: Sequence[str]) -> bytes | None:
    """The same graph, whose inputs are `NUMERIC` (rows, numeric columns) float32 and `CATEGORICAL`
    (rows, categorical columns) strings; None of a graph that another exporter laid out."""
    graph = onnx.load_from_string(model)
    body = graph.graph
    matrices = {node.input[0]: node for node in body.node if COLUMN_AXIS in node.input}
    if matrices.keys() != {*numeric, *categorical}:
        return None
    del body.input[:]
    for name, columns, kind in (
        (NUMERIC, numeric, TensorProto.FLOAT),
        (CATEGORICAL, categorical, TensorProto.STRING),
    ):
        if columns:
            body.input.append(helper.make_tensor_value_info(name, kind, ["rows", len(columns)]))
            outputs = [matrices[column].output[0] for column in columns]
            for column in columns:
                body.node.remove(matrices[column])
            split = helper.make_node("Split", [name], outputs, axis=1, num_outputs=len(columns))
            body.node.insert(0, split)
    return bytes(graph.SerializeToString())
