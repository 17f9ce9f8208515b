"""The machinery: what turns tables into a registered model."""

import os

# ONNX Runtime reports its use to its maker unless it is told not to before it is loaded.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
