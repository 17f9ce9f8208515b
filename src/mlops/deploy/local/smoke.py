"""The test that a bundle passes where it will run: its reference rows score what they scored."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mlops.core import bundle
from mlops.core.errors import UserError
from mlops.core.files import folder_digest

# What the bundle said of its reference rows where it was made, and says here.
TOLERANCE = 1e-5


def test(folder: Path) -> None:
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
