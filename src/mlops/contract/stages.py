"""The stages of a training, in their order, and the module that holds each."""

MODULES = {
    "ingest": "mlops.data.ingest",
    "featurize": "mlops.data.featurize",
    "tune": "mlops.training.tune",
    "train": "mlops.training.train",
    "evaluate": "mlops.evaluation.evaluate",
    "register": "mlops.registry.register",
}
