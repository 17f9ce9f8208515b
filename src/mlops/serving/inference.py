"""The Open Inference Protocol, version 2: JSON, and the binary extension of tensors.

https://github.com/kserve/open-inference-protocol; a tensor for each column, (rows,) or (rows, 1).
Among JSON null is a missing value, among bytes NaN is one, and so is an empty word in both.
"""

from __future__ import annotations

import struct
from typing import Any

import msgspec
import numpy as np

from mlops.contract.bundle import Array
from mlops.serving.errors import BROKEN, Refusal, malformed
from mlops.serving.literals import decoded
from mlops.serving.model import Batch, Model
from mlops.serving.rows import Columns, Rows
from mlops.serving.tensors import BYTES, NUMBERS, Usual

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


class Wanted(msgspec.Struct):
    """An output that the client names."""

    name: str
    parameters: Parameters | None = None


class Request(msgspec.Struct):
    """The JSON part of a request."""

    inputs: list[Input]
    id: str | None = None
    parameters: Parameters | None = None
    outputs: list[Wanted] | None = None


class Inference:
    """Decodes and answers one model's requests in version 2 of the protocol."""

    def __init__(self, model: Model, columns: Columns) -> None:
        self.model = model
        self.columns = columns
        self.usual = Usual(columns)
        self.everything = [Wanted(name) for name in model.card.outputs]
        self.decoder = msgspec.json.Decoder(Request)

    def decode(self, body: bytes, length: int | None) -> tuple[Request, Rows | Batch]:
        """A request, whose JSON part is of `length` where binary tensors follow it, and its rows;
        raises Refusal."""
        if length is None and (usual := self.usual.decode(body)):
            identity, rows = usual
            return Request([], identity), rows
        request, binary = self._parse(body, length)
        return request, self._tensors(request, binary)

    def _parse(self, body: bytes, length: int | None) -> tuple[Request, memoryview]:
        end = len(body) if length is None else length
        if not 0 <= end <= len(body):
            raise Refusal(
                400, f"Inference-Header-Content-Length: found {end} in a body of {len(body)} bytes"
            )
        whole = memoryview(body)
        try:
            request: Request = decoded(self.decoder, whole[:end])
        except BROKEN as error:
            raise malformed(error) from None
        self._require_outputs(request)
        return request, whole[end:]

    def _tensors(self, request: Request, binary: memoryview) -> Batch:
        columns: dict[str, list[Any] | Array] = {}
        self.columns.require([tensor.name for tensor in request.inputs], "inputs")
        for tensor in request.inputs:
            size = (tensor.parameters or {}).get(SIZE)
            if (size is None) == (tensor.data is msgspec.UNSET):
                found = "neither data nor" if size is None else "both data and"
                raise Refusal(422, f"inputs.{tensor.name}: found {found} {SIZE}")
            if size is None:
                columns[tensor.name] = self._listed(tensor)
            else:
                columns[tensor.name] = self._packed(tensor, _taken(tensor.name, binary, size))
                binary = binary[size:]
        if len(binary):
            raise Refusal(400, f"body: {len(binary)} bytes that no tensor speaks of")
        return self.columns.batch(columns, "inputs")

    def encode(self, outputs: list[Array], request: Request, identity: str) -> tuple[bytes, int]:
        """The answer, and the length of its JSON part where tensors follow it, else 0."""
        asked = request.outputs or self.everything
        as_bytes = (request.parameters or {}).get("binary_data_output", False)
        values = dict(zip(self.model.card.outputs, outputs, strict=True))
        listed, packed = list[Json](), list[bytes]()
        for wanted in asked:
            column = np.asarray(values[wanted.name], dtype=np.float32)
            tensor: Json = {"name": wanted.name, "datatype": "FP32", "shape": [len(column)]}
            if (wanted.parameters or {}).get("binary_data", as_bytes):
                packed.append(column.astype("<f4").tobytes())
                tensor["parameters"] = {SIZE: len(packed[-1])}
            else:
                tensor["data"] = column.tolist()
            listed.append(tensor)
        said = {
            "model_name": self.model.card.name,
            "model_version": self.model.version,
            "id": request.id if request.id is not None else identity,
            "parameters": {"digest": self.model.digest},
            "outputs": listed,
        }
        head = msgspec.json.encode(said)
        return b"".join([head, *packed]), len(head) if packed else 0

    def _require_outputs(self, request: Request) -> None:
        """Raise Refusal unless the outputs asked for are the model's, each once."""
        asked, known = [wanted.name for wanted in request.outputs or ()], self.model.card.outputs
        for name in asked:
            if name not in known:
                raise Refusal(422, f"outputs: found {name!r}, expected one of {', '.join(known)}")
        if len(asked) > len(set(asked)):
            raise Refusal(422, f"outputs: found {len(asked)}, expected each once")
        _require_flag(request.parameters, "binary_data_output", "parameters")
        for wanted in request.outputs or ():
            _require_flag(wanted.parameters, "binary_data", f"outputs.{wanted.name}")

    def _listed(self, tensor: Input) -> list[Any]:
        within = f"inputs.{tensor.name}"
        rows, nested = self._shape(tensor)
        content: Any = tensor.data
        try:
            values = self._flat(tensor, content)
        except BROKEN as error:
            if not nested:
                raise malformed(error, f"{within}.data") from None
            values = self._nested(tensor, content, within)
        if len(values) != rows:
            raise Refusal(422, f"{within}: found {len(values)} values, expected shape's {rows}")
        return values

    def _flat(self, tensor: Input, content: msgspec.Raw) -> list[Any]:
        if tensor.datatype == "BOOL":
            return msgspec.json.decode(content, type=list[bool | None])
        values: list[Any] = self.columns.column[tensor.name].decode(content)
        return values

    def _nested(self, tensor: Input, content: msgspec.Raw, within: str) -> list[Any]:
        """(rows, 1) may be given as lists of one value each."""
        kind = bool | None if tensor.datatype == "BOOL" else self.columns.kinds[tensor.name]
        try:
            rows = msgspec.json.decode(content, type=list[tuple[kind]])  # type: ignore[valid-type]
        except BROKEN as error:
            raise malformed(error, f"{within}.data") from None
        return [value for (value,) in rows]

    def _packed(self, tensor: Input, content: memoryview) -> list[Any] | Array:
        rows, _ = self._shape(tensor)
        if tensor.datatype == BYTES:
            return _words(tensor.name, content, rows)
        kind = np.dtype(NUMBERS[tensor.datatype]).newbyteorder("<")
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
        wanted = [BYTES] if name in self.model.words else list(NUMBERS)
        if tensor.datatype not in wanted:
            raise Refusal(
                422, f"inputs.{name}: found datatype {tensor.datatype!r}, expected "
                f"{' or '.join(wanted)}"
            )  # fmt: skip
        if shape[0] > self.columns.limit:
            raise self.columns.too_many(str(shape[0]))
        return shape[0], len(shape) == 2


def _require_flag(parameters: Parameters | None, name: str, within: str) -> None:
    found = (parameters or {}).get(name, False)
    if not isinstance(found, bool):
        raise Refusal(422, f"{within}: found {name} {found!r}, expected true or false")


def _taken(name: str, binary: memoryview, size: Any) -> memoryview:
    if type(size) is not int or not 0 <= size <= len(binary):
        raise Refusal(422, f"inputs.{name}: found {SIZE} {size!r}, {len(binary)} bytes are left")
    return binary[:size]


def _words(name: str, content: memoryview, rows: int) -> list[Any]:
    """Strings, each behind its length in four bytes."""
    words, place = [], 0
    try:
        for _ in range(rows):
            (size,) = struct.unpack_from("<I", content, place)
            place += 4 + size
            if place > len(content):
                raise ValueError("cut short")
            words.append(str(content[place - size : place], "utf-8"))
    except UnicodeDecodeError as error:
        reason = f"not UTF-8: {error.reason}"
        raise Refusal(422, f"inputs.{name}: row {len(words)}: {reason}") from None
    except (struct.error, ValueError):
        raise Refusal(422, f"inputs.{name}: row {len(words)}: cut short") from None
    if place != len(content):
        raise Refusal(422, f"inputs.{name}: found {len(content)} bytes, expected {place}")
    return words
