"""The two that the gate compares, on the same frozen rows: the candidate and the champion."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mlops.base.errors import UserError
from mlops.base.files import folder_digest, sha256
from mlops.contract import bundle, dataset, project
from mlops.contract.paths import BUNDLE, EVIDENCE, FEATURES
from mlops.deploy import manifest
from mlops.forge import git
from mlops.gitops.params import Params
from mlops.registry import store

if TYPE_CHECKING:
    import pandas as pd

PRODUCTION = "production"
HOLDOUT = "holdout.parquet"
# ONNX Runtime on another processor may differ in the last bits.
SAME = 1e-5

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Candidate:
    """The bundle in the workspace, scored again on the holdout that it names."""

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
    """What production pins, and what it says of the candidate's holdout; `by` says how."""

    digest: str
    card: bundle.Card
    prediction: Array
    by: str


def candidate(params: Params, root: Path) -> Candidate:
    """Score the workspace's bundle.

    Raises UserError when the holdout is not the one it was made with, or when its evidence
    speaks of other bytes.
    """
    scorer = bundle.Scorer(root / BUNDLE)
    path = root / FEATURES / dataset.HOLDOUT
    found, expected = sha256(path), scorer.card.hashes["holdout"]
    if found != expected:
        raise UserError(f"{path}: found digest {found[:12]}, the bundle's holdout {expected[:12]}")
    spec, holdout = project.features(params.project), dataset.read(path)
    prediction = scorer.predict(dataset.inputs(holdout, spec))
    said = _evidence(root / EVIDENCE / HOLDOUT, holdout, spec, scorer.card)
    if not np.allclose(said, prediction, rtol=0, atol=SAME, equal_nan=True):
        raise UserError(f"{root / EVIDENCE}: speaks of another bundle; `dvc repro evaluate`")
    return Candidate(
        digest=bundle.digest(root / BUNDLE),
        evidence=folder_digest(root / EVIDENCE),
        scorer=scorer,
        spec=spec,
        holdout=holdout,
        outcome=dataset.target(holdout, spec, scorer.card.task).to_numpy(),
        prediction=prediction,
        size=(root / BUNDLE / bundle.MODEL).stat().st_size,
    )


def champion(challenger: Candidate, root: Path, base: str) -> Champion | None:
    """What production pins at `base`, scored on the candidate's holdout; None when it pins nothing.

    Raises UserError when it can't be had, is not what was pinned, has seen rows of the holdout,
    or can speak of it neither itself nor by its evidence.
    """
    text = git.show(root, base, manifest.path(PRODUCTION))
    if text is None:
        raise UserError(f"{manifest.path(PRODUCTION)}: not there at {base}")
    pin = manifest.parse(text, f"{manifest.path(PRODUCTION)} at {base}").pin
    if pin is None:
        return None
    folder = store.fetch(pin, root)
    card = bundle.read_card(folder / BUNDLE)
    _require_comparable(card, challenger)
    missing = [column.name for column in card.inputs if column.name not in challenger.holdout]
    if not missing:
        scorer = bundle.Scorer(folder / BUNDLE)
        return Champion(pin.digest, card, scorer.predict(_inputs(card, challenger)), "its bundle")
    if card.hashes["holdout"] != challenger.card.hashes["holdout"]:
        raise UserError(
            f"it reads {', '.join(missing)}, which this branch no longer makes, and its evidence "
            "is of another holdout; keep the columns for one release, then remove them"
        )
    path = folder / EVIDENCE / HOLDOUT
    said = _evidence(path, challenger.holdout, challenger.spec, card)
    return Champion(pin.digest, card, said, "its evidence")


def _require_comparable(card: bundle.Card, challenger: Candidate) -> None:
    found, expected = (f"{c.task} of {c.target} ({c.classes})" for c in (card, challenger.card))
    if found != expected:
        raise UserError(f"its task is {found}, the candidate's {expected}")
    first = challenger.holdout[challenger.spec.day].dt.date.min()
    last = dt.date.fromisoformat(card.trained_on["until"])
    if last >= first:
        raise UserError(
            f"it was trained on days up to {last} and has seen this holdout, which begins on "
            f"{first}; move data.until forward or split.holdout_days back"
        )


def _inputs(card: bundle.Card, challenger: Candidate) -> pd.DataFrame:
    """The champion's own columns; a category of its that is a number now would be misread."""
    frame = challenger.holdout[[column.name for column in card.inputs]]
    words = dataset.categories(frame)
    for column in card.inputs:
        if (column.type == "string") != (column.name in words):
            raise UserError(f"its column {column.name} is a {column.type}, here it is not")
    return frame


def _evidence(
    path: Path, holdout: pd.DataFrame, spec: project.Features, card: bundle.Card
) -> Array:
    """The predictions kept as evidence, of the shape that the task has."""
    import pandas as pd

    if not path.exists():
        raise UserError(f"{path}: not found, and with it what was said of the holdout")
    kept = pd.read_parquet(path)
    if not kept[spec.key].equals(holdout[spec.key]):
        raise UserError(f"{path}: its rows are not the holdout's")
    names = [name for name in kept if str(name).startswith("prediction")]
    said: Array = kept[names].to_numpy(dtype=np.float64)
    return said if card.task == "multiclass" else said[:, 0]
