"""One loaded model with all that is made of it once: decoders, headers, what it says of itself."""

from __future__ import annotations

from typing import Any

from mlops.contract import bundle
from mlops.serving.inference import Inference
from mlops.serving.invocations import Invocations
from mlops.serving.model import Model
from mlops.serving.plain import Plain
from mlops.serving.rows import Columns
from mlops.serving.tensors import BYTES

EXTENSIONS = ["binary_tensor_data"]


class Endpoint:
    """A model as the three protocols know it; a request may have `rows` at most."""

    def __init__(self, model: Model, rows: int) -> None:
        self.model = model
        self.name = model.card.name
        columns = Columns(model, rows)
        self.plain = Plain(model, columns)
        self.invocations = Invocations(model, columns)
        self.inference = Inference(model, columns)
        self.headers = [
            (b"x-model-name", model.card.name.encode()),
            (b"x-model-version", model.version.encode()),
            (b"x-model-digest", model.digest.encode()),
        ]
        self._paths = {f"/v2/models/{self.name}": ""}
        if model.version:
            self._paths[f"/v2/models/{self.name}/versions/{model.version}"] = ""
        for base in list(self._paths):
            self._paths.update({f"{base}{rest}": rest for rest in ("/ready", "/infer")})

    def below(self, path: str) -> str | None:
        """What follows the model's own path; None when it is not this model's."""
        return self._paths.get(path)

    @property
    def server(self) -> dict[str, Any]:
        """The server's metadata of the Open Inference Protocol."""
        from importlib.metadata import version

        return {"name": "mlops", "version": version("mlops"), "extensions": EXTENSIONS}

    @property
    def metadata(self) -> dict[str, Any]:
        """The model's metadata of the Open Inference Protocol; -1 stands for any number of rows."""
        kinds = {"float": "FP32", "string": BYTES}
        return {
            "name": self.name,
            "versions": [self.model.version] if self.model.version else [],
            "platform": "onnxruntime_onnx",
            "inputs": [
                {"name": column.name, "datatype": kinds[column.type], "shape": [-1]}
                for column in self.model.card.inputs
            ],
            "outputs": [
                {"name": name, "datatype": "FP32", "shape": [-1]}
                for name in self.model.card.outputs
            ],
        }

    @property
    def about(self) -> dict[str, Any]:
        """The bundle's own card, with its digest and version."""
        card = bundle.as_json(self.model.card)
        return {"digest": self.model.digest, "version": self.model.version, **card}
