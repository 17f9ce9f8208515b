"""`python -m mlops.serving.batch BUNDLE --input … --output …`: as `mlops score`."""

from __future__ import annotations

import sys

from mlops.pipeline import stage
from mlops.serving import batch

if __name__ == "__main__":
    sys.exit(stage.guarded(lambda: batch.main(sys.argv[1:])))
