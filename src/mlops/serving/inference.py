"""The Open Inference Protocol, version 2: JSON, and the binary extension of tensors.

https://github.com/kserve/open-inference-protocol; a tensor for each column, (rows,) or (rows, 1).
In JSON null is a missing value, in bytes NaN is one, and so is an empty string in both.
"""

from __future__ import annotations

import struct
from typing import Any

import msgspec
import numpy as np

from mlops.contract.bundle import Array
from mlops.serving.errors import UNDECODABLE, Refusal, decode, undecodable
from mlops.serving.model import Batch, Model
from mlops.serving.rows import Columns, wrong_values

NUMERIC = {
    "BOOL": np.bool_, "UINT8": np.uint8, "UINT16": np.uint16, "UINT32": np.uint32,
    "UINT64": np.uint64, "INT8": np.int8, "INT16": np.int16, "INT32": np.int32,
    "INT64": np.int64, "FP16": np.float16, "FP32": np.float32, "FP64": np.float64,
}  # fmt: skip
BYTES = "BYTES"
SIZE = "binary_data_size"
Parameters = dict[str, Any]
Json = dict[str, Any]


class Input(msgspec.Struct):
    """One tensor of a request."""

    name: str
    shape: list[int]
    datatype: str
    parameters: Parameters | None = None
    data: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class Output(msgspec.Struct):
    """An output that a request names."""

    name: str
    parameters: Parameters | None = None


class InferRequest(msgspec.Struct):
    """The JSON part of a request."""

    inputs: list[Input]
    id: str | None = None
    parameters: Parameters | None = None
    outputs: list[Output] | None = None


class Inference:
    """Decodes and answers one model's requests in version 2 of the protocol."""

    def __init__(self, model: Model, columns: Columns) -> None:
        self.model = model
        self.columns = columns
        self.all_outputs = [Output(name) for name in model.card.outputs]
        self.decoder = msgspec.json.Decoder(InferRequest)

    def decode(self, body: bytes, length: int | None) -> tuple[InferRequest, Batch]:
        """A request and its rows; its JSON part is of `length` bytes where binary tensors follow.

        Raises Refusal.
        """
        end = len(body) if length is None else length
        if not 0 <= end <= len(body):
            raise Refusal(
                400, f"Inference-Header-Content-Length: found {end} in a body of {len(body)} bytes"
            )
        whole = memoryview(body)
        try:
            request: InferRequest = decode(self.decoder, whole[:end])
        except UNDECODABLE as error:
            raise undecodable(error) from None
        self._require_outputs(request)
        return request, self._batch(request, whole[end:])

    def _batch(self, request: InferRequest, binary: memoryview) -> Batch:
        columns: dict[str, list[Any] | Array] = {}
        self.columns.require([tensor.name for tensor in request.inputs], "inputs")
        for tensor in request.inputs:
            size = (tensor.parameters or {}).get(SIZE)
            if (size is None) == (tensor.data is msgspec.UNSET):
                found = "neither data nor" if size is None else "both data and"
                raise Refusal(422, f"inputs.{tensor.name}: found {found} {SIZE}")
            if size is None:
                columns[tensor.name] = self._from_json(tensor)
            else:
                columns[tensor.name] = self._from_bytes(tensor, _head(tensor.name, binary, size))
                binary = binary[size:]
        if len(binary):
            raise Refusal(400, f"body: found {len(binary)} bytes after the last tensor")
        return self.columns.batch(columns, "inputs")

    def encode(
        self, outputs: list[Array], request: InferRequest, identity: str
    ) -> tuple[bytes, int]:
        """The answer, and the length of its JSON part where tensors follow it, else 0."""
        as_bytes = (request.parameters or {}).get("binary_data_output", False)
        values = dict(zip(self.model.card.outputs, outputs, strict=True))
        tensors, binary = list[Json](), list[bytes]()
        for output in request.outputs or self.all_outputs:
            column = np.asarray(values[output.name], dtype=np.float32)
            tensor: Json = {"name": output.name, "datatype": "FP32", "shape": [len(column)]}
            if (output.parameters or {}).get("binary_data", as_bytes):
                binary.append(column.astype("<f4").tobytes())
                tensor["parameters"] = {SIZE: len(binary[-1])}
            else:
                tensor["data"] = column.tolist()
            tensors.append(tensor)
        answer = {
            "model_name": self.model.card.name,
            "model_version": self.model.version,
            "id": request.id if request.id is not None else identity,
            "parameters": {"digest": self.model.digest},
            "outputs": tensors,
        }
        head = msgspec.json.encode(answer)
        return b"".join([head, *binary]), len(head) if binary else 0

    def _require_outputs(self, request: InferRequest) -> None:
        """Raise Refusal unless the outputs asked for are the model's, each once."""
        names, known = [output.name for output in request.outputs or ()], self.model.card.outputs
        for name in names:
            if name not in known:
                raise Refusal(422, f"outputs: found {name!r}, expected one of {', '.join(known)}")
        if len(names) > len(set(names)):
            raise Refusal(422, f"outputs: found {len(names)}, expected each once")
        _require_flag(request.parameters, "binary_data_output", "parameters")
        for output in request.outputs or ():
            _require_flag(output.parameters, "binary_data", f"outputs.{output.name}")

    def _from_json(self, tensor: Input) -> list[Any]:
        place = f"inputs.{tensor.name}"
        rows, nested = self._shape(tensor)
        data: Any = tensor.data
        if nested:
            data = _unnested(data)
        if tensor.datatype == "BOOL":
            values = _booleans(data, f"{place}.data")
        else:
            values = self.columns.values(tensor.name, data, f"{place}.data")
        if len(values) != rows:
            raise Refusal(422, f"{place}: found {len(values)} values, expected shape's {rows}")
        return values

    def _from_bytes(self, tensor: Input, content: memoryview) -> list[Any] | Array:
        rows, _ = self._shape(tensor)
        if tensor.datatype == BYTES:
            return _strings(tensor.name, content, rows)
        kind = np.dtype(NUMERIC[tensor.datatype]).newbyteorder("<")
        if len(content) != rows * kind.itemsize:
            raise Refusal(
                422, f"inputs.{tensor.name}: found {len(content)} bytes, expected "
                f"{rows} {tensor.datatype}"
            )  # fmt: skip
        return np.frombuffer(content, dtype=kind)

    def _shape(self, tensor: Input) -> tuple[int, bool]:
        """How many rows a tensor says that it has, and whether they may be lists of one value."""
        name, shape = tensor.name, tensor.shape
        if len(shape) not in (1, 2) or shape[1:] not in ([], [1]) or shape[0] < 0:
            raise Refusal(422, f"inputs.{name}: found shape {shape}, expected [rows] or [rows, 1]")
        expected = [BYTES] if name in self.model.categorical else list(NUMERIC)
        if tensor.datatype not in expected:
            raise Refusal(
                422, f"inputs.{name}: found datatype {tensor.datatype!r}, expected "
                f"{' or '.join(expected)}"
            )  # fmt: skip
        if shape[0] > self.columns.limit:
            raise self.columns.too_many(str(shape[0]))
        return shape[0], len(shape) == 2


def _require_flag(parameters: Parameters | None, name: str, within: str) -> None:
    found = (parameters or {}).get(name, False)
    if not isinstance(found, bool):
        raise Refusal(422, f"{within}: found {name} {found!r}, expected true or false")


def _booleans(data: msgspec.Raw, place: str) -> list[Any]:
    try:
        return msgspec.json.decode(data, type=list[bool | None])
    except UNDECODABLE as error:
        raise wrong_values(data, "boolean", place) or undecodable(error, place) from None


def _unnested(data: Any) -> Any:
    """(rows, 1) may be given as lists of one value each; anything else is left as it is."""
    try:
        rows = msgspec.json.decode(data, type=list[tuple[msgspec.Raw]])
    except UNDECODABLE:
        return data
    return b"[%b]" % b",".join(bytes(value) for (value,) in rows)


def _head(name: str, binary: memoryview, size: Any) -> memoryview:
    """The first `size` bytes of what follows the JSON part."""
    if type(size) is not int or not 0 <= size <= len(binary):
        raise Refusal(422, f"inputs.{name}: found {SIZE} {size!r}, {len(binary)} bytes are left")
    return binary[:size]


def _strings(name: str, content: memoryview, rows: int) -> list[Any]:
    """Strings, each behind its length in four bytes."""
    strings, position = [], 0
    try:
        for _ in range(rows):
            (size,) = struct.unpack_from("<I", content, position)
            position += 4 + size
            if position > len(content):
                raise ValueError("cut short")
            strings.append(str(content[position - size : position], "utf-8"))
    except UnicodeDecodeError as error:
        reason = f"not UTF-8: {error.reason}"
        raise Refusal(422, f"inputs.{name}: row {len(strings)}: {reason}") from None
    except (struct.error, ValueError):
        raise Refusal(422, f"inputs.{name}: row {len(strings)}: cut short") from None
    if position != len(content):
        raise Refusal(422, f"inputs.{name}: found {len(content)} bytes, expected {position}")
    return strings
