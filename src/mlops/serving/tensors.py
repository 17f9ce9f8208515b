"""Usual tensors of the Open Inference Protocol, decoded in one typed pass.

Whatever is not as usual, wrong or merely rare, is left to `inference`, which says what is wrong.
"""

from __future__ import annotations

from typing import Any, Literal, Union, get_args

import msgspec
import numpy as np

from mlops.serving.errors import BROKEN, Refusal
from mlops.serving.model import Batch
from mlops.serving.rows import Columns, Order, Rows

NUMBERS = {
    "BOOL": np.bool_, "UINT8": np.uint8, "UINT16": np.uint16, "UINT32": np.uint32,
    "UINT64": np.uint64, "INT8": np.int8, "INT16": np.int16, "INT32": np.int32,
    "INT64": np.int64, "FP16": np.float16, "FP32": np.float32, "FP64": np.float64,
}  # fmt: skip
BYTES = "BYTES"
# Truth among JSON is no number: of the others any may be read as one.
LISTED = tuple(name for name in NUMBERS if name != "BOOL")
# Orders of columns that are kept, each of a client.
ORDERS = 64


class Usual:
    """Decodes requests with one tensor of JSON for each column, (rows,), and at most an id.

    A lone row is the most usual of all: what must be one value is one by its type.
    """

    def __init__(self, columns: Columns) -> None:
        self.columns = columns
        kinds = columns.kinds
        self._one = _decoder({name: (Literal[1], tuple[kind]) for name, kind in kinds.items()})  # type: ignore[valid-type]
        self._many = _decoder({name: (int, list[kind]) for name, kind in kinds.items()})  # type: ignore[valid-type]
        self._orders: dict[tuple[type, ...], Order] = {}

    def decode(self, body: bytes) -> tuple[str | None, Rows | Batch] | None:
        """The request's id and rows; None where it is not a usual one."""
        try:
            return self._row(self._one.decode(body))
        except BROKEN:
            pass
        try:
            return self._batch(self._many.decode(body))
        except (*BROKEN, Refusal):
            return None

    def _row(self, request: Any) -> tuple[str | None, Rows] | None:
        order = self._order(tuple(map(type, request.inputs)))
        if order is None:
            return None
        return request.id, order.rows([tuple([tensor.data[0] for tensor in request.inputs])])

    def _batch(self, request: Any) -> tuple[str | None, Batch] | None:
        """Columns as they are read elsewhere; raises Refusal."""
        for tensor in request.inputs:
            if tensor.shape != (len(tensor.data),) or tensor.shape[0] > self.columns.limit:
                return None
        names = [_name(type(tensor)) for tensor in request.inputs]
        self.columns.require(names, "inputs")
        data = [tensor.data for tensor in request.inputs]
        return request.id, self.columns.batch(dict(zip(names, data, strict=True)), "inputs")

    def _order(self, tensors: tuple[type, ...]) -> Order | None:
        """The order of the columns that these are; None unless they are the model's, each once."""
        if tensors not in self._orders:
            names = tuple(map(_name, tensors))
            if sorted(names) != sorted(self.columns.names):
                return None
            if len(self._orders) >= ORDERS:
                self._orders.clear()
            self._orders[tensors] = Order(self.columns, names)
        return self._orders[tensors]


def _decoder(columns: dict[str, tuple[Any, Any]]) -> msgspec.json.Decoder[Any]:
    """For tensors of each column's rows and data, which msgspec tells apart by their names."""
    tensors = tuple(
        msgspec.defstruct(
            "Tensor",
            [("shape", tuple[rows]), ("datatype", _datatype(data)), ("data", data)],  # type: ignore[valid-type]
            tag_field="name",
            tag=name,
            forbid_unknown_fields=True,
            gc=False,
        )
        for name, (rows, data) in columns.items()
    )
    fields: list[Any] = [("inputs", list[Union[tensors]]), ("id", str | None, None)]  # type: ignore[valid-type]  # noqa: UP007
    return msgspec.json.Decoder(
        msgspec.defstruct("Request", fields, forbid_unknown_fields=True, gc=False)
    )


def _datatype(data: Any) -> Any:
    return Literal[BYTES] if str in get_args(get_args(data)[0]) else Literal[LISTED]


def _name(tensor: type) -> str:
    return str(tensor.__struct_config__.tag)  # type: ignore[attr-defined]
