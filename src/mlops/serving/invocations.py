"""`POST /invocations`: the protocol of MLflow's scoring server.

https://mlflow.org/docs/latest/ml/deployment/deploy-model-locally

Null is a missing value, and so is the NaN that MLflow's own client writes. What MLflow lets pass
is refused: a column that the model does not have, a number in quotes, an infinite one.
"""

from __future__ import annotations

import csv
import io
from itertools import islice
from typing import Any

import msgspec
from msgspec import UNSET, Raw, UnsetType

from mlops.contract.bundle import Array
from mlops.serving import cells
from mlops.serving.errors import Refusal, decode, too_many_rows
from mlops.serving.model import Model, Rows
from mlops.serving.rows import Columns, Value

FORMS = ("dataframe_split", "dataframe_records", "instances", "inputs")
CSV = "text/csv"


class Split(msgspec.Struct):
    """A table as pandas splits it; the index is ignored."""

    columns: list[str]
    data: Raw


class Invocations:
    """Decodes and answers one model's requests in MLflow's forms."""

    def __init__(self, model: Model, columns: Columns) -> None:
        self.model = model
        self.columns = columns
        many: Any = list[columns.record]  # type: ignore[name-defined]
        # A lone record may have a value without a list.
        whole = dict[str, Value | list[Value]]
        types = (Split, many, many | whole, many | whole, Raw)
        fields = [
            (name, kind | UnsetType, UNSET)
            for name, kind in zip((*FORMS, "params"), types, strict=True)
        ]
        envelope: Any = msgspec.defstruct("Envelope", fields, forbid_unknown_fields=True)
        self.decoder = msgspec.json.Decoder(envelope)

    def decode(self, body: bytes, content_type: str) -> Rows:
        """Rows in any of the forms; raises Refusal."""
        if content_type == CSV:
            return self._csv(body)
        envelope = decode(self.decoder, body, columns=self.columns.names)
        given = [form for form in FORMS if getattr(envelope, form) is not UNSET]
        if len(given) != 1:
            found = " and ".join(given) or "none"
            raise Refusal(422, f"body: found {found}, expected one of {', '.join(FORMS)}")
        form, content = given[0], getattr(envelope, given[0])
        if isinstance(content, Split):
            return self.columns.table(content.columns, content.data)
        if not isinstance(content, dict):
            return self.columns.rows(content)
        partial = self.columns.require(list(content), form)
        values: dict[str, list[Any]] = {}
        for name, data in content.items():
            values[name] = data if isinstance(data, list) else [data]
            if name in self.columns.types:
                self.columns.require_values(name, values[name], form)
        return self.columns.transposed(values, form, partial)

    def encode(self, outputs: list[Array]) -> bytes:
        """What MLflow answers for an ONNX model and a data frame: a record for each row."""
        names, values = self.model.card.outputs, [output.tolist() for output in outputs]
        rows = [dict(zip(names, row, strict=True)) for row in zip(*values, strict=True)]
        return msgspec.json.encode({"predictions": rows})

    def _csv(self, body: bytes) -> Rows:
        """A line of names and a line for each row, as pandas writes them; blank lines are none.

        An empty cell is a missing value, and so is NA, and NaN for a number.
        """
        columns = self.columns
        text = io.TextIOWrapper(io.BytesIO(body), "utf-8-sig", newline="")
        reader = csv.reader(text, strict=True)
        try:
            lines = [line for line in islice(reader, columns.limit + 1) if line]
            more = next(reader, None)
        except (UnicodeDecodeError, csv.Error) as error:
            raise Refusal(400, f"body: not CSV in UTF-8: {error}") from None
        if more is not None:
            raise too_many_rows(f"more than {columns.limit}", columns.limit)
        if not lines:
            raise Refusal(400, "body: found nothing, expected a line of column names")
        header, *rows = lines
        partial = columns.require(header, "CSV")
        # The last cell, an empty one, stands for a column that was left out.
        order = [(name, header.index(name) if name in header else -1) for name in columns.names]
        missing = [
            set(cells.MISSING) - (known if name in header else set())
            for name, known in zip(self.model.categorical, self.model.categories, strict=True)
        ]
        numeric, categorical = [], []
        for number, row in enumerate(rows):
            place = f"CSV row {number}"
            if len(row) != len(header):
                raise Refusal(422, f"{place}: found {len(row)} cells, expected {len(header)}")
            row.append("")
            numbers = order[: columns.count]
            numeric.append(tuple(_number(row[i], f"{place}.{name}") for name, i in numbers))
            texts = [row[i] for _, i in order[columns.count :]]
            pairs = zip(texts, missing, strict=True)
            categorical.append(tuple(None if text in none else text for text, none in pairs))
        keys = [row[header.index(columns.key)] for row in rows] if columns.key in header else None
        return Rows(numeric, categorical, keys, partial)


def _number(cell: str, place: str) -> float | None:
    try:
        return cells.number(cell)
    except ValueError:
        raise Refusal(422, f"{place}: found {cell[:40]!r}, expected a number") from None
