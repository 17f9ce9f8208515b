"""MLServer with a class of its own for ONNX: it brings none, and its documentation shows how."""

# MLServer is in an environment of its own.
# mypy: disable-error-code="import-not-found,misc"

from mlserver import MLModel
from mlserver.codecs import NumpyCodec, StringCodec
from mlserver.types import InferenceRequest, InferenceResponse

from benchmarks.serving.rivals.row import Model, strings


class Onnx(MLModel):
    """The bundle's model behind version 2 of the protocol."""

    async def load(self) -> bool:
        """Load the model."""
        self.model = Model()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Score the rows of one request."""
        feeds = {}
        for tensor in payload.inputs:
            if self.model.kinds[tensor.name] == "float":
                feeds[tensor.name] = self.decode(tensor, default_codec=NumpyCodec)
            else:
                feeds[tensor.name] = strings(self.decode(tensor, default_codec=StringCodec))
        scores = self.model.session.run(None, feeds)[0]
        output = NumpyCodec.encode_output("probability", scores)
        return InferenceResponse(model_name=self.name, outputs=[output])
