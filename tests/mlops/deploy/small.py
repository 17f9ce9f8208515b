"""Bundles made in a moment, some of which go wrong in one way each once they serve; their pins."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx.parser
import pandas as pd

from mlops.contract import bundle
from mlops.registry.pin import Contents, Pin

ROWS = [{"x": float(x)} for x in np.linspace(-2, 2, 17)]
# Beyond all reference rows.
FAR = 5000.0


# After some multiplications that change nothing. A constant would be folded away: these depend on
# the input's first row.
SLOW = """
some = Slice (x, zero, one_row, zero)
first = Sub (some, some)
big = Expand (first, shape)
one = MatMul (big, big)
two = MatMul (one, big)
nothing = ReduceSum <keepdims = 0> (two)
late = Add (x, nothing)
line = Mul (late, slope)
"""
FAILING = f"""
far = Constant <value_float = {FAR}> ()
is_far = Greater (x, far)
place = Where (is_far, missing, there)
nothing = Gather (table, place)
same = Add (x, nothing)
line = Mul (same, slope)
"""


def made(folder: Path, slope: float) -> str:
    """Write a bundle whose probability is a logistic curve of two numbers; its digest."""
    return written(folder, slope, "product = Mul (x, slope)\nline = Add (product, z)", two=True)


def sound(folder: Path, slope: float) -> str:
    """Write a bundle whose probability is a logistic curve of one number; its digest."""
    return written(folder, slope, "line = Mul (x, slope)")


def slow(folder: Path, slope: float) -> str:
    """Write one that scores as `sound`, after some multiplications that change nothing."""
    constants = ", int64[2] shape = {800, 800}, int64[1] zero = {0}, int64[1] one_row = {1}"
    return written(folder, slope, SLOW, constants)


def failing(folder: Path, slope: float) -> str:
    """Write one that scores as `sound`, and fails on numbers above FAR."""
    constants = ", int64 missing = {10}, int64 there = {0}, float[1] table = {0.0}"
    return written(folder, slope, FAILING, constants)


def garbage(folder: Path, slope: float) -> str:
    """Write one that does not score its reference rows as when it was made."""
    return written(folder, slope, "twice = Add (x, x)\nline = Mul (twice, slope)")


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


def written(folder: Path, slope: float, nodes: str, constants: str = "", two: bool = False) -> str:
    """Write a bundle whose nodes, in ONNX's text form, compute the curve's `line`; its digest."""
    folder.mkdir(parents=True)
    table = pd.DataFrame({"x": np.linspace(-2, 2, 40, dtype=np.float32)})
    if two:
        table["z"] = np.tile(np.float32([0.0, 0.5]), 20)
    names = list(table)
    model = onnx.parser.parse_model(
        f"""<ir_version: 9, opset_import: ["": 17]>
        small ({", ".join(f"float[N] {name}" for name in names)}) => (float[N] probability)
        <float slope = {{{float(slope)}}}{constants}>
        {{ {nodes}\nprobability = Sigmoid (line) }}"""
    )
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
