"""The two models that the gate compares, scored on the candidate's frozen holdout."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mlops.base.errors import UserError
from mlops.base.files import folder_digest, sha256
from mlops.contract import bundle, dataset, project
from mlops.contract.bundle import Array
from mlops.contract.paths import BUNDLE, EVIDENCE, FEATURES
from mlops.deploy import manifest
from mlops.gitops import pins
from mlops.gitops.params import Params
from mlops.registry import store

if TYPE_CHECKING:
    import pandas as pd

HOLDOUT = "holdout.parquet"
# ONNX Runtime on another processor may differ in the last bits.
TOLERANCE = 1e-5


@dataclass(frozen=True)
class Candidate:
    """The bundle in the workspace, scored again on the holdout that it names; `size` in bytes."""

    digest: str
    evidence: str
    scorer: bundle.Scorer
    spec: project.Features
    holdout: pd.DataFrame
    outcome: Array
    prediction: Array
    size: int

    @property
    def card(self) -> bundle.Card:
        return self.scorer.card


@dataclass(frozen=True)
class Champion:
    """What production pins, and its predictions for the candidate's holdout.

    `by` says where the predictions come from: its bundle, or its evidence; `breaking` why its
    clients may be refused, None where they must not be.
    """

    digest: str
    card: bundle.Card
    prediction: Array
    by: str
    breaking: str | None = None


def candidate(params: Params, root: Path) -> Candidate:
    """Score the workspace's bundle.

    Raises UserError when the holdout is not the one it was made with, or when its evidence
    is of another bundle.
    """
    scorer = bundle.Scorer(root / BUNDLE)
    path = root / FEATURES / dataset.HOLDOUT
    digest, expected = sha256(path), scorer.card.hashes["holdout"]
    if digest != expected:
        raise UserError(f"{path}: found digest {digest[:12]}, the bundle's holdout {expected[:12]}")
    spec, holdout = project.features(params.project), dataset.read(path)
    prediction = scorer.predict(dataset.inputs(holdout, spec))
    evidence = _evidence(root / EVIDENCE / HOLDOUT, holdout, spec, scorer.card)
    if not np.allclose(evidence, prediction, rtol=0, atol=TOLERANCE, equal_nan=True):
        raise UserError(f"{root / EVIDENCE}: is of another bundle; `dvc repro evaluate`")
    return Candidate(
        digest=bundle.digest(root / BUNDLE),
        evidence=folder_digest(root / EVIDENCE),
        scorer=scorer,
        spec=spec,
        holdout=holdout,
        outcome=dataset.target(holdout, spec, scorer.card.class_names),
        prediction=prediction,
        size=(root / BUNDLE / bundle.MODEL).stat().st_size,
    )


def champion(candidate: Candidate, root: Path, base: str) -> Champion | None:
    """What production pins at `base`, scored on the candidate's holdout; None when it pins nothing.

    Raises UserError when it can't be fetched, is not what was pinned, has seen rows of the
    holdout, or has predictions neither by itself nor in its evidence.
    """
    pin = pins.manifest_at(root, base, pins.PRODUCTION)[0].pin
    if pin is None:
        return None
    folder = store.fetch(pin, root)
    card = bundle.read_card(folder / BUNDLE)
    _require_comparable(card, candidate)
    breaking = manifest.load(root, pins.PRODUCTION).breaking
    missing = [column.name for column in card.inputs if column.name not in candidate.holdout]
    if not missing:
        prediction = bundle.Scorer(folder / BUNDLE).predict(_inputs(card, candidate))
        return Champion(pin.digest, card, prediction, "its bundle", breaking)
    try:
        path = folder / EVIDENCE / HOLDOUT
        evidence = _evidence(path, candidate.holdout, candidate.spec, card)
    except UserError as error:
        raise UserError(
            f"it reads {', '.join(missing)}, which this branch no longer makes, and its evidence "
            f"can't stand in: {error}; leave data.until and split as they were in the change that "
            "removes columns"
        ) from None
    return Champion(pin.digest, card, evidence, "its evidence", breaking)


def _require_comparable(card: bundle.Card, candidate: Candidate) -> None:
    its, expected = (
        f"{c.task} of {c.target} ({', '.join(c.labels) or c.classes})"
        for c in (card, candidate.card)
    )
    if its != expected:
        raise UserError(f"its task is {its}, the candidate's {expected}")
    if candidate.spec.day and "until" in card.trained_on:
        first = candidate.holdout[candidate.spec.day].dt.date.min()
        last = dt.date.fromisoformat(card.trained_on["until"])
        if last >= first:
            raise UserError(
                f"it was trained on days up to {last} and has seen this holdout, which begins on "
                f"{first}; move data.until forward or split.holdout_days back"
            )
        return
    before, now = (c.trained_on.get("holdout_share", 0) for c in (card, candidate.card))
    by, here = (c.trained_on.get("by", "day") for c in (card, candidate.card))
    if by != here or before < now:
        raise UserError(
            f"it held out {before:g} of the rows by {by} and may have seen this holdout, which is "
            f"{now:g} by {here}; leave DAY, GROUP, KEY and split.holdout_share as they were"
        )


def _inputs(card: bundle.Card, candidate: Candidate) -> pd.DataFrame:
    """The champion's input columns; raises UserError for one whose type has changed since."""
    frame = candidate.holdout[[column.name for column in card.inputs]]
    categorical = dataset.categories(frame)
    for column in card.inputs:
        if (column.type == "string") != (column.name in categorical):
            raise UserError(f"its column {column.name} is a {column.type}, here it is not")
    return frame


def _evidence(
    path: Path, holdout: pd.DataFrame, spec: project.Features, card: bundle.Card
) -> Array:
    """The predictions kept as evidence, of the shape that the task has."""
    import pandas as pd

    if not path.exists():
        raise UserError(f"{path}: not found; it has the predictions for the holdout")
    kept = pd.read_parquet(path)
    if not kept[spec.key].equals(holdout[spec.key]):
        raise UserError(f"{path}: its rows are not the holdout's")
    predictions: Array = kept.filter(regex=r"^prediction(_\d+)?$").to_numpy(dtype=np.float64)
    return predictions if card.task == "multiclass" else predictions[:, 0]
