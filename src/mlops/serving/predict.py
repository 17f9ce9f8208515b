"""`POST /predict`: one record or many, by column name.

Every column is there; null is a missing value, and so is NaN where a client writes it. Of a name
that a record has twice the last counts, as in most readers of JSON. Or `keys` of which the features
are looked up, and by name those that `overrides` has instead, null for the published one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from mlops.contract.bundle import Array, Card
from mlops.serving.errors import decode
from mlops.serving.model import Model, Rows
from mlops.serving.rows import Columns, Value

KEYED = re.compile(rb'\s*\{\s*"(keys|overrides)"')


class Keyed(msgspec.Struct, forbid_unknown_fields=True):
    """A request by key; each override has a value for each key."""

    keys: list[str]
    overrides: dict[str, list[Value]] = {}


class Predict:
    """Decodes and answers one model's requests by column name."""

    def __init__(self, model: Model, columns: Columns) -> None:
        self.model = model
        self.columns = columns
        body: Any = columns.record | list[columns.record]  # type: ignore[name-defined]
        self.decoder = msgspec.json.Decoder(body)
        self.keyed = msgspec.json.Decoder(Keyed)
        # A column of such a name is one of a record.
        own = {*columns.types, *columns.retired}
        self._by_key = columns.key and not {"keys", "overrides"} & own

    def decode(self, body: bytes) -> Rows:
        """Rows of a record or a list of records, or of keys; raises Refusal."""
        if self._by_key and KEYED.match(body):
            request: Keyed = decode(self.keyed, body)
            return self.columns.keyed(request.keys, request.overrides)
        records = decode(self.decoder, body, columns=self.columns.names, lone=True)
        return self.columns.rows(records if isinstance(records, list) else [records])

    def encode(self, outputs: list[Array], identity: str, ages: Sequence[float] = ()) -> bytes:
        """One prediction for each record, the model's name and version, and the request's id.

        `ages` are the seconds since the features of each key were made.
        """
        model = self.model
        about = {"model": model.card.name, "version": model.version, "digest": model.digest}
        scores = predictions(model.card, outputs)
        answer = {**about, "id": identity, "predictions": scores}
        return msgspec.json.encode({**answer, "ages": ages} if ages else answer)


def predictions(card: Card, outputs: list[Array]) -> list[dict[str, Any]]:
    """For each row its probability and decision, its probabilities and class, or its value.

    Where the model has no finite answer, JSON has null, and there is no decision and no class.
    """
    if card.task == "multiclass":
        rows = np.stack(outputs, axis=1)
        best = np.where(np.isfinite(rows.sum(axis=1)), rows.argmax(axis=1), -1).tolist()
        # The last one, for a row without an answer, is null.
        classes: tuple[Any, ...] = (*(card.labels or range(card.classes)), None)
        return [
            {"probabilities": row, "class": classes[place]}
            for row, place in zip(rows.tolist(), best, strict=True)
        ]
    values, threshold = outputs[0].tolist(), card.threshold
    if card.task == "regression":
        return [{"prediction": value} for value in values]
    if threshold is None:
        return [{"probability": value} for value in values]
    return [
        {"probability": value, "decision": value >= threshold if value == value else None}
        for value in values
    ]
