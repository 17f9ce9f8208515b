"""A loaded model with what is made for it once: decoders, response headers, paths, metadata."""

from __future__ import annotations

from typing import Any

from mlops.contract import bundle
from mlops.serving import openapi, page
from mlops.serving.inference import BYTES, Inference
from mlops.serving.invocations import Invocations
from mlops.serving.model import Model
from mlops.serving.predict import Predict
from mlops.serving.rows import Columns

EXTENSIONS = ["binary_tensor_data"]


class Endpoint:
    """A model behind the three protocols; a request may have `rows` at most."""

    def __init__(self, model: Model, rows: int) -> None:
        self.model = model
        self.name = model.card.name
        columns = Columns(model, rows)
        self.predict = Predict(model, columns)
        self.invocations = Invocations(model, columns)
        self.inference = Inference(model, columns)
        self.headers = [
            ("x-model-name", model.card.name),
            ("x-model-version", model.version),
            ("x-model-digest", model.digest),
        ]
        self._paths = {f"/v2/models/{self.name}": ""}
        if model.version:
            self._paths[f"/v2/models/{self.name}/versions/{model.version}"] = ""
        for base in list(self._paths):
            self._paths.update({f"{base}{rest}": rest for rest in ("/ready", "/infer")})

    def below(self, path: str) -> str | None:
        """The part of a path below the model's own; None when it is not this model's."""
        return self._paths.get(path)

    @property
    def server(self) -> dict[str, Any]:
        """The server's metadata of the Open Inference Protocol."""
        from importlib.metadata import version

        return {"name": "mlops", "version": version("mlops"), "extensions": EXTENSIONS}

    @property
    def metadata(self) -> dict[str, Any]:
        """The model's metadata of the Open Inference Protocol; -1 stands for any number of rows."""
        datatypes = {"float": "FP32", "string": BYTES}
        return {
            "name": self.name,
            "versions": [self.model.version] if self.model.version else [],
            "platform": "onnxruntime_onnx",
            "inputs": [
                {"name": column.name, "datatype": datatypes[column.type], "shape": [-1]}
                for column in self.model.card.inputs
            ],
            "outputs": [
                {"name": name, "datatype": "FP32", "shape": [-1]}
                for name in self.model.card.outputs
            ],
        }

    @property
    def openapi(self) -> dict[str, Any]:
        """The service's OpenAPI document."""
        return openapi.document(self.model)

    @property
    def page(self) -> str:
        """The page `/docs`."""
        return page.page(self.model)

    @property
    def about(self) -> dict[str, Any]:
        """The bundle's own card, with its digest and version."""
        card = bundle.as_json(self.model.card)
        return {"digest": self.model.digest, "version": self.model.version, **card}
