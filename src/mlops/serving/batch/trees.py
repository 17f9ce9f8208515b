"""A bundle whose trees are scored in blocks of rows, to the bit as ONNX Runtime scores them.

Encoding is left to ONNX Runtime; and so is all of a bundle that this can't score (deep trees,
several outputs), or does not score the same on the bundle's own reference rows.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import onnx
import pyarrow.parquet as pq
from onnx import TensorProto, helper

from mlops.contract import bundle
from mlops.contract.bundle import Array
from mlops.serving import graph, model
from mlops.serving.batch import table
from mlops.serving.batch.forest import Forest, Unfit, forest
from mlops.serving.model import Batch, Model

# In units in the last place of float32, several times what the C library claims.
UNSURE = 1 / 64
MATRIX = "matrix"


@dataclass(frozen=True)
class Forested(Model):
    """A model whose trees are scored here; `session` only makes their matrix."""

    forest: Forest
    whole: Model

    def score(self, rows: Batch) -> list[Array]:
        """As `Model.score`."""
        (matrix,) = super().score(rows)
        values = self.forest.score(matrix)
        if not self.forest.logistic:
            return [values]
        chances, unsure = _logistic(values)
        if unsure.any():
            (chances[unsure],) = self.whole.score(Batch(rows.numbers[unsure], rows.words[unsure]))
        return [chances]


def load(folder: Path) -> Model:
    """A bundle's model, its trees scored here where that gives the same bits for the reference.

    Raises UserError as `mlops.serving.model.load` does.
    """
    loaded = model.load(folder)
    try:
        made = _forested(loaded, (folder / bundle.MODEL).read_bytes())
        real = _reference(folder, loaded)
        return made if graph.same(loaded.score(real), made.score(real)) else loaded
    # What another exporter made is scored as it is.
    except Exception:
        return loaded


def _reference(folder: Path, loaded: Model) -> Batch:
    """The bundle's own sample of rows that it was trained on."""
    columns = [column.name for column in loaded.card.inputs]
    rows, _ = table.read(pq.read_table(folder / bundle.REFERENCE, columns=columns), loaded)
    return rows


def _forested(loaded: Model, content: bytes) -> Model:
    if not loaded.narrow or len(loaded.card.outputs) != 1:
        raise Unfit
    narrowed = graph.narrowed(content, list(loaded.numbers), list(loaded.words))
    proto = onnx.load_from_string(narrowed)
    body = proto.graph
    node = next(node for node in body.node if node.op_type.startswith("TreeEnsemble"))
    made = forest(node)
    # Up to the trees' matrix, and no further.
    body.node.insert(
        list(body.node).index(node), helper.make_node("Identity", node.input, [MATRIX])
    )
    del body.node[list(body.node).index(node) :]
    del body.output[:]
    body.output.append(helper.make_tensor_value_info(MATRIX, TensorProto.FLOAT, ["rows", None]))
    session = bundle.session(proto.SerializeToString())
    kept = {field.name: getattr(loaded, field.name) for field in fields(Model)}
    return Forested(**{**kept, "session": session}, forest=made, whole=loaded)


def _logistic(values: Array) -> tuple[Array, Array]:
    """The logistic function as ONNX Runtime has it, in float32, and where it may be another.

    Its exponential is off by a little more than half a unit in the last place at most: where the
    true one is that close to the middle of two numbers, either may be the one that it takes.
    """
    true = np.exp(-np.abs(values).astype(np.float64))
    power = true.astype(np.float32)
    off = np.abs(true - power) / np.spacing(power)
    upper = np.float32(1) / (np.float32(1) + power)
    chances = np.where(values < 0, np.float32(1) - upper, upper)
    return chances, np.abs(off - 0.5) < UNSURE
