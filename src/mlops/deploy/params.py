"""The parameters of predictions: `predict:`."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from mlops.contract import params
from mlops.contract.params import Section
from mlops.data.params import apart_from_outputs


class Predict(Section):
    """Where the predictions of the coming rows go: a kind of sink, and its location.

    `{environment}` stands for the environment's name.
    """

    sink: str = Field(default="files", min_length=1)
    location: Annotated[str, AfterValidator(apart_from_outputs)] = Field(
        default=".run/predictions/{environment}", min_length=1
    )


class Params(params.Params):
    """The parameters that predictions read."""

    predict: Predict = Predict()
