"""A BentoML service: `bentoml serve benchmarks.serving.rivals.bentoml:Service`."""

# BentoML is in an environment of its own.
# mypy: disable-error-code="import-not-found,misc,untyped-decorator"

from typing import Any

import bentoml

from benchmarks.serving.rivals.row import Model, Prediction

model = Model()
Row: Any = model.row


@bentoml.service(workers=1, logging={"access": {"enabled": False}})
class Service:
    """One model behind BentoML."""

    @bentoml.api
    def predict(self, row: Row) -> Prediction:
        """The probability of one row."""
        return model.predict(row)
