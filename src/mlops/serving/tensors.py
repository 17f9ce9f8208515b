"""Usual tensors of the Open Inference Protocol, decoded in one typed pass.

Whatever is not as usual, wrong or merely rare, is left to `inference`, which says what is wrong.
"""

from __future__ import annotations

from operator import attrgetter
from typing import Any, Literal, Union

import msgspec
import numpy as np

from mlops.serving.errors import BROKEN
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
SHAPE, DATA = attrgetter("shape"), attrgetter("data")


class Usual:
    """Decodes requests with one tensor of JSON for each column, (rows,), and at most an id."""

    def __init__(self, columns: Columns) -> None:
        self.columns = columns
        tensors = [_tensor(name, kind) for name, kind in columns.kinds.items()]
        request: Any = msgspec.defstruct(
            "Request",
            [("inputs", list[Union[tuple(tensors)]]), ("id", str | None, None)],  # type: ignore[misc]  # noqa: UP007
            forbid_unknown_fields=True,
            gc=False,
        )
        self.decoder = msgspec.json.Decoder(request)
        self._orders: dict[tuple[type, ...], Order] = {}

    def decode(self, body: bytes) -> tuple[str | None, Rows] | None:
        """The request's id and rows; None where it is not a usual one."""
        try:
            request = self.decoder.decode(body)
        except BROKEN:
            return None
        order = self._order(tuple(map(type, request.inputs)))
        shapes = list(map(SHAPE, request.inputs))
        (rows,) = shape = shapes[0] if shapes else (0,)
        if order is None or shapes.count(shape) < len(shapes):
            return None
        data = list(map(DATA, request.inputs))
        if list(map(len, data)).count(rows) < len(data) or not 0 < rows <= self.columns.limit:
            return None
        return request.id, order.rows(zip(*data, strict=True))

    def _order(self, tensors: tuple[type, ...]) -> Order | None:
        """The order of the columns that these are; None unless they are the model's, each once."""
        if tensors not in self._orders:
            names = tuple(str(tensor.__struct_config__.tag) for tensor in tensors)  # type: ignore[attr-defined]
            if sorted(names) != sorted(self.columns.names):
                return None
            if len(self._orders) >= ORDERS:
                self._orders.clear()
            self._orders[tensors] = Order(self.columns, names)
        return self._orders[tensors]


def _tensor(name: str, kind: Any) -> Any:
    """The type of one column's tensors; msgspec tells them apart by their names."""
    datatypes = (BYTES,) if kind == str | None else LISTED
    return msgspec.defstruct(
        "Tensor",
        [
            ("shape", tuple[int]),
            ("datatype", Literal[datatypes]),
            ("data", list[kind]),
        ],
        tag_field="name",
        tag=name,
        forbid_unknown_fields=True,
        gc=False,
    )
