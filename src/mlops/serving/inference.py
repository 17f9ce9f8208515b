"""The Open Inference Protocol, version 2: JSON, and the binary extension of tensors.

https://github.com/kserve/open-inference-protocol; a tensor for each column, (rows,) or (rows, 1).
In JSON null is a missing value, in bytes NaN is one, and so is an empty string in both.
"""

from __future__ import annotations

import struct
from typing import Any, cast

import msgspec
import numpy as np

from mlops.contract.bundle import Array
from mlops.serving.errors import Refusal, decode, too_many_rows
from mlops.serving.model import Model, Rows
from mlops.serving.rows import Columns, Value

NUMERIC = {
    "BOOL": np.bool_, "UINT8": np.uint8, "UINT16": np.uint16, "UINT32": np.uint32,
    "UINT64": np.uint64, "INT8": np.int8, "INT16": np.int16, "INT32": np.int32,
    "INT64": np.int64, "FP16": np.float16, "FP32": np.float32, "FP64": np.float64,
}  # fmt: skip
BYTES = "BYTES"
SIZE = "binary_data_size"
# Characters of a request's id, which its answer and each of its samples repeat.
LONGEST_ID = 128


class Parameters(msgspec.Struct):
    """The binary extension: a tensor's bytes behind the JSON part, and which outputs go there."""

    binary_data_size: int | None = None
    binary_data: bool | None = None
    binary_data_output: bool | None = None


class Input(msgspec.Struct):
    """One tensor of a request."""

    name: str
    shape: list[int]
    datatype: str
    parameters: Parameters | None = None
    data: list[Value | list[Value]] | msgspec.UnsetType = msgspec.UNSET


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
        self.decoder = msgspec.json.Decoder(InferRequest)
        self._datatypes: dict[str, Any] = dict.fromkeys(model.numeric, NUMERIC)

    def decode(self, body: bytes, length: int | None) -> tuple[InferRequest, Rows]:
        """A request and its rows; its JSON is of `length` bytes where binary tensors follow."""
        end = len(body) if length is None else length
        if end > len(body):
            raise Refusal(
                400, f"Inference-Header-Content-Length: found {end} in a body of {len(body)} bytes"
            )
        whole = memoryview(body)
        request: InferRequest = decode(self.decoder, whole[:end])
        if request.id and len(request.id) > LONGEST_ID:
            found = f"found {len(request.id)} characters"
            raise Refusal(422, f"id: {found}, expected at most {LONGEST_ID}")
        names, known = [output.name for output in request.outputs or ()], self.model.card.outputs
        for name in names:
            if name not in known:
                raise Refusal(422, f"outputs: found {name!r}, expected one of {', '.join(known)}")
        if len(names) > len(set(names)):
            raise Refusal(422, f"outputs: found {len(names)}, expected each once")
        return request, self._rows(request.inputs, whole[end:])

    def encode(
        self, outputs: list[Array], request: InferRequest, identity: str
    ) -> tuple[bytes, int]:
        """The answer, and the length of its JSON part where tensors follow it, else 0."""
        as_bytes = request.parameters and request.parameters.binary_data_output
        values = dict(zip(self.model.card.outputs, outputs, strict=True))
        tensors, binary = list[dict[str, Any]](), list[bytes]()
        for output in request.outputs or map(Output, values):
            column = np.asarray(values[output.name], dtype=np.float32)
            tensor: dict[str, Any] = {"name": output.name, "datatype": "FP32"}
            tensor["shape"] = [len(column)]
            own = output.parameters.binary_data if output.parameters else None
            if as_bytes if own is None else own:
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

    def _rows(self, inputs: list[Input], binary: memoryview) -> Rows:
        columns: dict[str, list[Any]] = {}
        partial = self.columns.require([tensor.name for tensor in inputs], "inputs")
        for tensor in inputs:
            size = tensor.parameters.binary_data_size if tensor.parameters else None
            if (size is None) == (tensor.data is msgspec.UNSET):
                found = "neither data nor" if size is None else "both data and"
                raise Refusal(422, f"inputs.{tensor.name}: found {found} {SIZE}")
            if tensor.name not in self.columns.retired:
                self._require_shape(tensor)
                if size is None:
                    columns[tensor.name] = self._from_json(tensor)
            if size is None:
                continue
            place = f"inputs.{tensor.name}"
            if not 0 <= size <= len(binary):
                raise Refusal(422, f"{place}: found {SIZE} {size}, {len(binary)} bytes are left")
            content, binary = binary[:size], binary[size:]
            if tensor.name not in self.columns.retired:
                unpack = _strings if tensor.datatype == BYTES else _numbers
                columns[tensor.name] = unpack(tensor, content, place)
        if len(binary):
            raise Refusal(400, f"body: found {len(binary)} bytes after the last tensor")
        return self.columns.transposed(columns, "inputs", partial)

    def _require_shape(self, tensor: Input) -> None:
        shape = tensor.shape
        if not shape or shape[0] < 0 or len(shape) > 2 or (len(shape) == 2 and shape[1] != 1):
            found = f"inputs.{tensor.name}: found shape {shape}"
            raise Refusal(422, f"{found}, expected [rows] or [rows, 1]")
        expected = self._datatypes.get(tensor.name, (BYTES,))
        if tensor.datatype not in expected:
            wrong = f"found datatype {tensor.datatype!r}, expected {' or '.join(expected)}"
            raise Refusal(422, f"inputs.{tensor.name}: {wrong}")
        if shape[0] > self.columns.limit:
            raise too_many_rows(str(shape[0]), self.columns.limit)

    def _from_json(self, tensor: Input) -> list[Any]:
        values = cast("list[Any]", tensor.data)
        if len(tensor.shape) == 2 and all(type(row) is list and len(row) == 1 for row in values):
            values = [value for (value,) in values]
        boolean = tensor.datatype == "BOOL"
        self.columns.require_values(tensor.name, values, "inputs", ".data", boolean)
        if len(values) != tensor.shape[0]:
            found = f"inputs.{tensor.name}: found {len(values)} values"
            raise Refusal(422, f"{found}, expected shape's {tensor.shape[0]}")
        return values


def _numbers(tensor: Input, content: memoryview, place: str) -> list[Any]:
    rows, kind = tensor.shape[0], np.dtype(NUMERIC[tensor.datatype]).newbyteorder("<")
    if len(content) != rows * kind.itemsize:
        raise Refusal(
            422, f"{place}: found {len(content)} bytes, expected {rows} {tensor.datatype}"
        )
    values: list[Any] = np.frombuffer(content, dtype=kind).tolist()
    return values


def _strings(tensor: Input, content: memoryview, place: str) -> list[Any]:
    """Strings, each behind its length in four bytes."""
    strings, position = [], 0
    try:
        for _ in range(tensor.shape[0]):
            (size,) = struct.unpack_from("<I", content, position)
            position += 4 + size
            if position > len(content):
                raise ValueError("cut short")
            strings.append(str(content[position - size : position], "utf-8"))
    except UnicodeDecodeError as error:
        reason = f"not UTF-8: {error.reason}"
        raise Refusal(422, f"{place}: row {len(strings)}: {reason}") from None
    except (struct.error, ValueError):
        raise Refusal(422, f"{place}: row {len(strings)}: cut short") from None
    if position != len(content):
        raise Refusal(422, f"{place}: found {len(content)} bytes, expected {position}")
    return strings
