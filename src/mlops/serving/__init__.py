"""The scoring service: a bundle behind HTTP. Imports ONNX Runtime, never MLflow or Prefect."""
