"""Requests to one bundle's deployment behind an online endpoint."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import requests

from mlops.base.errors import UserError
from mlops.deploy import specification
from mlops.deploy.target import Row

SERVED = "x-model-digest"
# Seconds to connect, and between two bytes of an answer.
TIMEOUT = (10.0, 30.0)


@dataclass(frozen=True)
class Deployed:
    """One bundle's deployment, reached whatever its share of the traffic."""

    url: str
    key: str = field(repr=False)
    digest: str

    def score(self, rows: Sequence[Row]) -> Any:
        """The answer in MLflow's protocol; UserError when there is none, or of another bundle."""
        name = specification.name_of(self.digest)
        try:
            response = requests.post(
                self.url,
                json={"dataframe_records": list(rows)},
                headers={"Authorization": f"Bearer {self.key}", "azureml-model-deployment": name},
                timeout=TIMEOUT,
            )
            response.raise_for_status()
            content = response.json()
        except (requests.RequestException, ValueError) as error:
            reason = str(error).replace(self.key, "***")[:200]
            raise UserError(f"Azure ML: {name} does not answer: {reason}") from None
        # A proxy may drop the header; the reference rows must score as expected all the same.
        served = response.headers.get(SERVED, self.digest)
        if served != self.digest:
            raise UserError(f"Azure ML: {name} serves {served[:12]}, expected {self.digest[:12]}")
        return content
