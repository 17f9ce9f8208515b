"""The scoring service, and `batch/` for whole tables: ONNX Runtime, never MLflow or Prefect.

Imports `base` and `contract`; `batch/` also `data`. `stores/` has a file for each kind of store of
features by key. A new protocol is a file beside `invocations.py`, built in `service.py`, with a
handler in `routes.py`.
"""
