"""ONNX Runtime in a bare loop: `BUNDLE SECONDS`; prints the median seconds of a run.

The rows are decoded before the clock: nothing is measured but the model's own `run`.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np

from mlops.contract import bundle

ROWS = 512
WARM = 500


def main(folder: Path, seconds: float) -> float:
    """The median of single runs, each with another row of the bundle's reference."""
    import pandas as pd

    model = bundle.session((folder / bundle.MODEL).read_bytes())
    rows = pd.read_parquet(folder / bundle.REFERENCE).head(ROWS)
    feeds = [bundle.feeds(model, rows.iloc[[place]]) for place in range(ROWS)]
    taken = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        for feed in feeds:
            start = time.perf_counter()
            model.run(None, feed)
            taken.append(time.perf_counter() - start)
    return float(np.median(taken[WARM:]))


if __name__ == "__main__":
    print(main(Path(sys.argv[1]), float(sys.argv[2])))
