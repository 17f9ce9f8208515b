"""Train: refit the winner on training and validation rows, export it to ONNX, write the bundle."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from mlops.base.files import digest_of, sha256, whole_folder
from mlops.contract import bundle, dataset, project, stages
from mlops.contract.paths import BUNDLE, FEATURES, SEARCH
from mlops.contract.result import Result, Tuned
from mlops.pipeline import stage
from mlops.training import families
from mlops.training.params import Params

if TYPE_CHECKING:
    import pandas as pd

# What of the parameters makes a bundle.
PARAMETERS = ("project", "model", "seed", "threads", "data", "split", "tune", "train")


class Trained(Result):
    """The bundle's digest, and how far its ONNX graph is from the native model at most.

    It is read off the bundle: a file of its own in there would change the digest.
    """

    digest: str
    family: str
    rows: int
    parity: float
    bytes: int
    labels: tuple[str, ...] = ()

    @classmethod
    def load(cls, folder: Path) -> Self:
        card = bundle.read_card(folder)
        return cls(
            digest=bundle.digest(folder),
            family=card.family,
            rows=card.trained_on["rows"],
            parity=card.parity,
            bytes=(folder / bundle.MODEL).stat().st_size,
            labels=card.labels,
        )


def run(params: Params, root: Path) -> Trained:
    """Write the bundle; equal code, data, parameters and seed give equal bytes."""
    from mlops.pipeline import tracking
    from mlops.training import onnx

    spec, tuned = project.features(params.project), Tuned.load(root / SEARCH)
    table = dataset.read(root / FEATURES / dataset.TRAINING)
    frame, task = dataset.inputs(table, spec), tuned.task
    labels = dataset.classes(table, spec, task)
    outcome, classes = dataset.target(table, spec, labels), len(labels) or 1
    encoder, estimator = _fitted(frame, outcome, tuned, params)
    model = onnx.export(encoder, estimator, frame, task, classes)
    holdout = dataset.inputs(dataset.read(root / FEATURES / dataset.HOLDOUT), spec)
    parity = onnx.require_parity(model, encoder, estimator, holdout, task, params.train.parity)
    reference = _reference(frame, model, task, params)
    card = {
        "name": params.model,
        "task": task,
        "target": spec.target,
        "classes": classes,
        "inputs": _inputs(frame, spec),
        "example": _example(reference, spec),
        "outputs": onnx.output_names(task, classes),
        "threshold": tuned.threshold,
        "family": tuned.family,
        "hyperparameters": tuned.hyperparameters,
        "trained_on": {"rows": len(table), **_apart(table, spec, params)},
        "parity": parity,
        "hashes": hashes(params, root),
        # Numbers from 0 need no names.
        "labels": labels if labels != tuple(map(str, range(classes))) else (),
        "optional": spec.optional,
        "retired": spec.retired,
        "key": spec.key,
    }
    with whole_folder(root / BUNDLE) as folder:
        (folder / bundle.MODEL).write_bytes(model)
        reference.to_parquet(folder / bundle.REFERENCE)
        bundle.write_card(folder, card)
    tracking.tolerant(tracking.bundle, params.model, root)
    return Trained.load(root / BUNDLE)


def _fitted(
    frame: pd.DataFrame, outcome: bundle.Array, tuned: Tuned, params: Params
) -> tuple[Any, Any]:
    """The winner's encoder and estimator, fitted on all the rows."""
    from threadpoolctl import threadpool_limits

    family = families.family(tuned.family)
    encoder = families.encoder(family.ENCODING, frame)
    with threadpool_limits(params.threads):
        matrix = encoder.fit_transform(frame).astype(np.float32)
        if params.train.workers > 1:
            from mlops.training import distributed

            return encoder, distributed.fit((matrix, outcome), tuned, params)
        estimator = family.build(tuned.task, tuned.hyperparameters, params.seed, params.threads)
        family.fit(estimator, (matrix, outcome), None)
    return encoder, estimator


def _apart(table: pd.DataFrame, spec: project.Features, params: Params) -> dict[str, Any]:
    """What says that the holdout's rows are not among the training rows: days, or the hash."""
    if spec.day is None:
        return {"by": spec.group or spec.key, "holdout_share": params.split.holdout_share}
    days = table[spec.day].dt.date
    return {"since": str(days.min()), "until": str(days.max())}


def _inputs(frame: pd.DataFrame, spec: project.Features) -> list[dict[str, Any]]:
    categorical = dataset.categories(frame)
    return [
        {
            "name": name,
            "type": "string" if name in categorical else "float",
            "unit": unit,
            "categories": sorted(set(frame[name])) if name in categorical else (),
        }
        for name, unit in spec.features.items()
    ]


def _example(reference: pd.DataFrame, spec: project.Features) -> dict[str, Any]:
    """A real row, as complete as any, for whoever wants to try the model."""
    rows = reference[list(spec.features)]
    row = rows.loc[[rows.isna().sum(axis=1).idxmin()]]
    example: dict[str, Any] = json.loads(row.to_json(orient="records", double_precision=15))[0]
    return example


def _reference(
    frame: pd.DataFrame, model: bytes, task: project.Task, params: Params
) -> pd.DataFrame:
    """A sample of the training rows with what the model says of them, to measure drift against."""
    rows = min(params.train.reference_rows, len(frame))
    sample = frame.sample(rows, random_state=params.seed).sort_index()
    scores = bundle.predict(bundle.session(model), sample, task)
    return dataset.with_prediction(sample, scores).reset_index(drop=True)


def hashes(params: Params, root: Path) -> dict[str, str]:
    """SHA-256 of the training code and lock, the training rows, the parameters, the holdout.

    The code is what `dvc.yaml` says `train` depends on, which every stage checks as it ends.
    """
    settings = params.model_dump(mode="json", include=set(PARAMETERS))
    # Where the rows lay is not in the model; the rows are, under their own hash.
    settings["data"] = {"until": settings["data"]["until"]}
    return {
        "code": digest_of({path: sha256(root / path) for path in code(params, root)}),
        "data": sha256(root / FEATURES / dataset.TRAINING),
        "parameters": hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest(),
        "holdout": sha256(root / FEATURES / dataset.HOLDOUT),
    }


def code(params: Params, root: Path) -> list[str]:
    """The source files and the lock that `dvc.yaml` names for training, folders file by file."""
    named = [root / path for path in stages.dependencies("train", params.project, root)]
    files = [file for path in named for file in (path, *path.rglob("*")) if file.is_file()]
    paths = {file.relative_to(root).as_posix() for file in files}
    return sorted(path for path in paths if path.endswith((".py", ".lock")))


if __name__ == "__main__":
    stage.main("train", run, Params)
