"""The bundle: the folder that is trained, evaluated, registered, pinned and served.

`model.onnx`, `bundle.json` and `reference.parquet`. Its digest is the SHA-256 over the sorted
digests of its files, so equal bytes have equal names, wherever and whenever they were made.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec
import numpy as np

from mlops.base.errors import UserError
from mlops.base.files import folder_digest, read_json, sha256, write_json
from mlops.contract.paths import not_found
from mlops.contract.project import Task

if TYPE_CHECKING:
    import onnxruntime
    import pandas as pd

MODEL = "model.onnx"
CARD = "bundle.json"
REFERENCE = "reference.parquet"
# The tensor by which the exported graph makes each of its inputs a matrix of one column.
COLUMN_AXIS = ".column_axis"
# A folder that does not exist.
NOWHERE = "/dev/null/nowhere"

Array = np.ndarray[Any, np.dtype[Any]]


# Not pydantic: its import takes a third of the time in which the service starts.
class Input(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One input column. `categories` are those seen in training; others are scored all the same."""

    name: str
    type: Literal["float", "string"]
    unit: str
    categories: tuple[str, ...] = ()


class Card(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """`bundle.json`: the description of a bundle, without anything that differs from run to run.

    `labels` are the names of the classes, in the order of their numbers; none where the target
    holds the numbers themselves, and in a regression. A request may leave `optional` inputs out,
    which are then missing, and may still have `retired` ones, which are ignored. `key` is the
    column by which features are published and looked up.
    """

    name: str
    task: Task
    target: str
    classes: int
    inputs: tuple[Input, ...]
    example: dict[str, float | str | None]
    outputs: tuple[str, ...]
    threshold: float | None
    family: str
    hyperparameters: dict[str, Any]
    trained_on: dict[str, Any]
    parity: float
    hashes: dict[str, str]
    files: dict[str, str]
    labels: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    retired: tuple[str, ...] = ()
    key: str = ""

    @property
    def class_names(self) -> tuple[str, ...]:
        """A name for each class; none in a regression."""
        numbers = () if self.task == "regression" else range(self.classes)
        return self.labels or tuple(map(str, numbers))


def write_card(folder: Path, card: dict[str, Any]) -> Card:
    """Write `bundle.json` beside the files that it lists, with their digests."""
    files = {name: sha256(folder / name) for name in (MODEL, REFERENCE)}
    checked = msgspec.convert({**card, "files": files}, Card)
    write_json(folder / CARD, msgspec.to_builtins(checked))
    return checked


def read_card(folder: Path) -> Card:
    """Read `bundle.json` and check every file's digest against it; UserError where one differs."""
    path = folder / CARD
    try:
        card = msgspec.convert(read_json(path), Card)
    except FileNotFoundError:
        raise UserError(not_found(path)) from None
    except ValueError as error:
        raise UserError(f"{path}: not a bundle's card: {' '.join(str(error).split())}") from None
    for name, expected in card.files.items():
        found = sha256(folder / name) if (folder / name).exists() else "nothing"
        if found != expected:
            raise UserError(f"{folder / name}: found {found[:12]}, expected digest {expected[:12]}")
    return card


def digest(folder: Path) -> str:
    """The bundle's digest, in hex."""
    return folder_digest(folder)


class Scorer:
    """A bundle's model in ONNX Runtime."""

    def __init__(self, folder: Path, threads: int = 1) -> None:
        self.card = read_card(folder)
        self.session = session((folder / MODEL).read_bytes(), threads)

    def predict(self, frame: pd.DataFrame) -> Array:
        """Probability of the positive class (n,), of each class (n, k), or the value (n,)."""
        return predict(self.session, frame, self.card.task)


def session(model: bytes, threads: int = 1) -> onnxruntime.InferenceSession:
    """A session on the CPU; one thread gives the same bits on every machine size.

    Raises UserError for tensors in other files: no digest covers them, and any path may be named.
    """
    import onnx
    import onnxruntime
    from onnx import external_data_helper

    graph = onnx.load_from_string(model)
    try:
        external_data_helper.load_external_data_for_model(graph, NOWHERE)
    except Exception:
        raise UserError(f"{MODEL}: found tensors in other files, expected all in it") from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def predict(model: onnxruntime.InferenceSession, frame: pd.DataFrame, task: Task) -> Array:
    """Score a frame's rows: one ONNX input per column, each of the shape (n,)."""
    outputs = model.run(None, feeds(model, frame))
    columns = [np.asarray(output, dtype=np.float64) for output in outputs]
    return np.column_stack(columns) if task == "multiclass" else columns[0]


def feeds(model: onnxruntime.InferenceSession, frame: pd.DataFrame) -> dict[str, Array]:
    """A frame's columns as the model's inputs, by name, each of the shape (n,)."""
    return {node.name: _column(frame[node.name], node.type) for node in model.get_inputs()}


def _column(values: pd.Series[Any], kind: str) -> Array:
    if kind == "tensor(string)":
        return values.fillna("").astype(str).to_numpy(dtype=object)
    return values.to_numpy(dtype=np.float32, na_value=np.nan)
