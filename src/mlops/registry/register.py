"""Register: make the bundle a model version in MLflow, once, with where it comes from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops.base import processes
from mlops.base.errors import UserError
from mlops.base.files import alone, folder_digest
from mlops.contract import bundle, dataset
from mlops.contract.params import Params
from mlops.contract.paths import BUNDLE, EVIDENCE, FEATURES
from mlops.contract.result import Result
from mlops.pipeline import stage, tracking
from mlops.pipeline.tracking import EVIDENCE_TAG
from mlops.registry import versions

if TYPE_CHECKING:
    import pandas as pd
    from mlflow import MlflowClient

ALIAS = "challenger"
# Given, since MLflow infers them in a process of its own, which takes ten seconds.
REQUIREMENTS = ("onnx", "onnxruntime", "pandas")
# MLflow keeps so many characters of a dataset's digest.
DATASET_DIGEST = 36


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
    # Two at once would each find no version and make one.
    with alone(root / BUNDLE):
        return _registered(params, root)


def adopt(root: Path, fetched: Path, commit: str) -> int:
    """Register a bundle that was made elsewhere, and fetched, where `root` tracks; its version."""
    with alone(fetched):
        (root / tracking.EMBEDDED).mkdir(exist_ok=True)
        store = fetched / tracking.EMBEDDED
        if not store.exists():
            store.symlink_to((root / tracking.EMBEDDED).resolve())
        card, digest = bundle.read_card(fetched / BUNDLE), bundle.digest(fetched / BUNDLE)
        client, _ = tracking.connect(card.name, fetched)
        # Today's parameters are not those that made it.
        run = tracking.bundle(card.name, fetched, settings=False)
        if (fetched / EVIDENCE).exists():
            tracking.evidence(card.name, fetched)
        before = versions.by_digest(fetched, card.name, digest)
        return before.number if before else _create(client, card, digest, run, fetched, commit)


def _registered(params: Params, root: Path) -> Registered:
    digest = bundle.digest(root / BUNDLE)
    card = bundle.read_card(root / BUNDLE)
    client, _ = tracking.connect(card.name, root)
    tracking.search(card.name, root)
    evidence = tracking.evidence(card.name, root)
    before = versions.by_digest(root, card.name, digest)
    version = (
        before.number if before else _create(client, card, digest, evidence, root, git_commit(root))
    )
    client.set_model_version_tag(
        card.name, str(version), EVIDENCE_TAG, folder_digest(root / EVIDENCE)
    )
    client.set_registered_model_alias(card.name, ALIAS, str(version))
    return Registered(
        model=card.name, version=version, digest=digest, run=evidence, new=before is None
    )


def ensure(params: Params, root: Path) -> Registered:
    """Do as `run`, but first ask the registry whether anything is left to do."""
    return _already(params, root) or run(params, root)


def _already(params: Params, root: Path) -> Registered | None:
    """The challenger in the registry, when it is this very bundle with this very evidence."""
    version = versions.by_alias(root, params.model, ALIAS)
    digest = bundle.digest(root / BUNDLE)
    tags = {tracking.BUNDLE_TAG: digest, EVIDENCE_TAG: folder_digest(root / EVIDENCE)}
    if version is None or not tags.items() <= version.tags.items():
        return None
    return Registered(
        model=params.model, version=version.number, digest=digest, run=version.run, new=False
    )


def _create(
    client: MlflowClient, card: bundle.Card, digest: str, run: str, root: Path, commit: str
) -> int:
    from mlflow.exceptions import MlflowException

    _log_datasets(client, run, card)
    source = _log_model(run, card, root)
    try:
        client.create_registered_model(card.name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    tags = {
        "mlops.bundle": digest,
        "mlops.git_commit": commit,
        **{f"mlops.{name}": value for name, value in card.hashes.items()},
    }
    # With its tags from the start: a version that has no digest could be made twice.
    version = client.create_model_version(
        card.name, source.model_uri, run, tags=tags, model_id=source.model_id
    )
    return int(version.version)


def _log_model(run: str, card: bundle.Card, root: Path) -> Any:
    import importlib.metadata

    import mlflow
    import onnx

    model = onnx.load(root / BUNDLE / bundle.MODEL)
    example = _example(card, root)
    with mlflow.start_run(run_id=run):
        return mlflow.onnx.log_model(
            model,
            name="model",
            onnx_execution_providers=["CPUExecutionProvider"],
            signature=_signature(card),
            input_example=example,
            pip_requirements=[f"{n}=={importlib.metadata.version(n)}" for n in REQUIREMENTS],
        )


def _example(card: bundle.Card, root: Path) -> pd.DataFrame:
    """Five rows of the reference, input columns only."""
    import pandas as pd

    return pd.read_parquet(
        root / BUNDLE / bundle.REFERENCE, columns=[column.name for column in card.inputs]
    ).head(5)


def _signature(card: bundle.Card) -> Any:
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema

    inputs = [ColSpec(column.type, column.name) for column in card.inputs]
    outputs = [ColSpec("float", name) for name in card.outputs]
    return ModelSignature(Schema([*inputs]), Schema([*outputs]))


def _log_datasets(client: MlflowClient, run: str, card: bundle.Card) -> None:
    from mlflow.entities import Dataset, DatasetInput, InputTag

    inputs = [
        DatasetInput(
            Dataset(
                name,
                card.hashes[key][:DATASET_DIGEST],
                "local",
                json.dumps({"uri": str(FEATURES / file)}),
            ),
            [InputTag("mlflow.data.context", name)],
        )
        for name, key, file in [
            ("training", "data", dataset.TRAINING),
            ("holdout", "holdout", dataset.HOLDOUT),
        ]
    ]
    client.log_inputs(run, inputs)


def git_commit(root: Path) -> str:
    """The commit checked out at `root`, with `-dirty` when tracked files differ from it."""
    try:
        command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
        return processes.run(command, cwd=root).strip()
    except UserError:
        return "unknown"


if __name__ == "__main__":
    stage.main("register", run, Params)
