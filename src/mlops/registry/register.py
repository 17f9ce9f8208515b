"""Register: make the bundle a model version in MLflow, once, with where it comes from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops.base.files import alone, folder_digest
from mlops.contract import bundle, dataset
from mlops.contract.params import Params
from mlops.contract.paths import BUNDLE, EVIDENCE, FEATURES
from mlops.contract.result import Result
from mlops.forge import git
from mlops.pipeline import stage, tracking, tracking_server
from mlops.registry import versions

if TYPE_CHECKING:
    from mlflow import MlflowClient

ALIAS = "challenger"
# Given, since MLflow infers them in a process of its own, which takes ten seconds.
REQUIREMENTS = ("onnx", "onnxruntime", "pandas")
# MLflow keeps so many characters of a dataset's digest.
DATASET_DIGEST = 36
DATASETS = (("training", "data", dataset.TRAINING), ("holdout", "holdout", dataset.HOLDOUT))


class Registered(Result):
    """The model version that holds the bundle; `new` unless these bytes were registered before."""

    model: str
    version: int
    digest: str
    run: str
    new: bool
    alias: str = ALIAS


def run(params: Params, root: Path) -> Registered:
    """Register the bundle under `params.model` and give it the alias `challenger`.

    Writes the runs that made it first, when this tracking server does not have them.
    Raises UserError when the server can't be reached; nothing that was trained is lost.
    """
    with tracking_server.mlflow_errors(root):
        card, digest = bundle.read_card(root / BUNDLE), bundle.digest(root / BUNDLE)
        client, _ = tracking.connect(card.name, root)
        tracking.search(card.name, root)
        run = tracking.evidence(card.name, root)
        before = versions.by_digest(root, card.name, digest)
        version = before.number if before else _create(
            client, card, card.name, run, root, git.described(root)
        )  # fmt: skip
        evidence = folder_digest(root / EVIDENCE)
        for key, value in versions.accepted({tracking.EVIDENCE_TAG: evidence}, root).items():
            client.set_model_version_tag(card.name, str(version), key, value)
        client.set_registered_model_alias(card.name, ALIAS, str(version))
        return Registered(
            model=card.name, version=version, digest=digest, run=run, new=before is None
        )


def adopt(root: Path, fetched: Path, commit: str, model: str = "") -> int:
    """Register a bundle that was made elsewhere, and fetched, where `root` tracks; its version.

    `model` is the registered model's name, unless it is the bundle's own. The bundle's bytes are
    compared with their digests; a version that has this bundle already is not made again.
    """
    with alone(fetched), tracking_server.mlflow_errors(fetched):
        (root / tracking_server.EMBEDDED).mkdir(exist_ok=True)
        store = fetched / tracking_server.EMBEDDED
        if not store.exists():
            store.symlink_to((root / tracking_server.EMBEDDED).resolve())
        card = bundle.read_card(fetched / BUNDLE)
        name = model or card.name
        client, _ = tracking.connect(name, fetched)
        # Today's parameters are not those that made it.
        run = tracking.bundle(name, fetched, settings=False)
        if (fetched / EVIDENCE).exists():
            tracking.evidence(name, fetched)
        before = versions.by_digest(fetched, name, bundle.digest(fetched / BUNDLE))
        return before.number if before else _create(client, card, name, run, fetched, commit)


def _create(
    client: MlflowClient, card: bundle.Card, name: str, run: str, root: Path, commit: str
) -> int:
    from mlflow.entities import Dataset, DatasetInput, InputTag
    from mlflow.exceptions import MlflowException

    for use, key, file in DATASETS:
        source = json.dumps({"uri": str(FEATURES / file)})
        entity = Dataset(use, card.hashes[key][:DATASET_DIGEST], "local", source)
        client.log_inputs(run, [DatasetInput(entity, [InputTag("mlflow.data.context", use)])])
    model = _log_model(run, card, root)
    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code not in ("RESOURCE_ALREADY_EXISTS", "ALREADY_EXISTS"):
            raise
    tags = {f"mlops.{key}": value for key, value in card.hashes.items()}
    tags |= {tracking.BUNDLE_TAG: bundle.digest(root / BUNDLE), "mlops.git_commit": commit}
    if card.labels:
        tags["mlops.classes"] = json.dumps(card.labels)
    # With its tags from the start: a version that has no digest could be made twice.
    version = client.create_model_version(
        name, model.model_uri, run, tags=versions.accepted(tags, root), model_id=model.model_id
    )
    return int(version.version)


def _log_model(run: str, card: bundle.Card, root: Path) -> Any:
    import importlib.metadata

    import mlflow
    import onnx
    import pandas as pd

    columns = [column.name for column in card.inputs]
    with mlflow.start_run(run_id=run):
        return mlflow.onnx.log_model(
            onnx.load(root / BUNDLE / bundle.MODEL),
            name="model",
            onnx_execution_providers=["CPUExecutionProvider"],
            signature=_signature(card),
            input_example=pd.read_parquet(root / BUNDLE / bundle.REFERENCE, columns=columns).head(),
            pip_requirements=[f"{n}=={importlib.metadata.version(n)}" for n in REQUIREMENTS],
        )


def _signature(card: bundle.Card) -> Any:
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema

    inputs = [ColSpec(column.type, column.name) for column in card.inputs]
    outputs = [ColSpec("float", name) for name in card.outputs]
    return ModelSignature(Schema([*inputs]), Schema([*outputs]))


if __name__ == "__main__":
    stage.main("register", run, Params)
