"""This machine as a target: bundles placed below `.run/local/`, proved to load and to score.

`current` names the one in use; it is moved only when the new one has passed its test.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np

from mlops.core import bundle
from mlops.core.errors import UserError
from mlops.core.files import alone, folder_digest, whole_folder

HOME = Path(".run/local")
CURRENT = "current"
# What the bundle said of its reference rows where it was made, and says here.
TOLERANCE = 1e-5


def deploy(environment: str, bundle: Path, root: Path) -> None:
    """Place a bundle, test it in its place, then let `current` name it. May be repeated.

    Raises UserError, and changes nothing that runs, when the bundle fails its test.
    """
    home = root / HOME / environment
    home.mkdir(parents=True, exist_ok=True)
    digest = folder_digest(bundle)
    # Around both, or another could remove what this one is about to name.
    with alone(root / HOME):
        with whole_folder(home / digest) as folder:
            shutil.copytree(bundle, folder, dirs_exist_ok=True)
            smoke_test(folder)
        before = _named(home)
        aside = home / f".{CURRENT}.part"
        aside.write_text(digest + "\n")
        os.replace(aside, home / CURRENT)
        # The one before stays, for whoever still has it open.
        for old in home.iterdir():
            if old.is_dir() and old.name not in (digest, before):
                shutil.rmtree(old, ignore_errors=True)


def current(environment: str, root: Path) -> str | None:
    """The digest of the bytes in use, computed from them; None when there are none."""
    home = root / HOME / environment
    named = _named(home)
    return folder_digest(home / named) if named and (home / named).is_dir() else None


def remove(environment: str, root: Path) -> None:
    """Use nothing."""
    shutil.rmtree(root / HOME / environment, ignore_errors=True)


def smoke_test(folder: Path) -> None:
    """Score the bundle's reference rows; raises UserError unless it says what it said when made."""
    digest = folder_digest(folder)[:12]
    try:
        off = _off(folder)
    except UserError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())
        raise UserError(f"bundle {digest}: does not run here: {reason}") from None
    if not off <= TOLERANCE:
        raise UserError(
            f"bundle {digest}: its reference rows score {off:.2g} off what they did when it was "
            f"made, expected at most {TOLERANCE:g}"
        )


def _off(folder: Path) -> float:
    """The greatest difference between what the reference rows score here and scored there."""
    import pandas as pd

    reference = pd.read_parquet(folder / bundle.REFERENCE)
    names = [name for name in reference if str(name).startswith("prediction")]
    expected = reference[names].to_numpy().squeeze()
    return float(np.max(np.abs(bundle.Scorer(folder).predict(reference) - expected)))


def _named(home: Path) -> str:
    try:
        return (home / CURRENT).read_text().strip()
    except FileNotFoundError:
        return ""
