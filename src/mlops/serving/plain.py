"""`POST /predict`: one record or many, by column name.

Every column is there; null is a missing value, and so is NaN where a client writes it. Of a name
that a record has twice the last counts, as in most readers of JSON.
"""

from __future__ import annotations

from typing import Any

import msgspec

from mlops.contract.bundle import Array
from mlops.serving.answers import predictions
from mlops.serving.errors import BROKEN, malformed
from mlops.serving.literals import decoded
from mlops.serving.model import Model
from mlops.serving.rows import Columns, Rows


class Plain:
    """Decodes and answers one model's plain requests."""

    def __init__(self, model: Model, columns: Columns) -> None:
        self.model = model
        self.columns = columns
        body: Any = columns.record | list[columns.record]  # type: ignore[name-defined]
        self.decoder = msgspec.json.Decoder(body)

    def decode(self, body: bytes) -> Rows:
        """A record, or a list of them; raises Refusal."""
        try:
            found = decoded(self.decoder, body)
        except BROKEN as error:
            raise malformed(error, columns=self.columns.names, root="column") from None
        return self.columns.rows(found if isinstance(found, list) else [found])

    def encode(self, outputs: list[Array], request: str) -> bytes:
        """One prediction for each record, and who says so."""
        return msgspec.json.encode(
            {
                "model": self.model.card.name,
                "version": self.model.version,
                "digest": self.model.digest,
                "id": request,
                "predictions": predictions(self.model.card, outputs),
            }
        )
