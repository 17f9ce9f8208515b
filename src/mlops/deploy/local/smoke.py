"""The test that a bundle passes where it will run: its reference rows score what they scored."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mlops.base.errors import UserError
from mlops.base.files import folder_digest
from mlops.contract import bundle
from mlops.deploy import smoke_test


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
    smoke_test.require_close(off, f"bundle {digest}: ")


def _off(folder: Path) -> float:
    """The greatest difference between what the reference rows score here and scored there."""
    import pandas as pd

    reference = pd.read_parquet(folder / bundle.REFERENCE)
    names = [name for name in reference if str(name).startswith("prediction")]
    expected = reference[names].to_numpy().squeeze()
    return float(np.max(np.abs(bundle.Scorer(folder).predict(reference) - expected)))
