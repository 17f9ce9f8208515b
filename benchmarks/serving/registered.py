"""Register a bundle as the pipeline does: `BUNDLE FOLDER`; prints the model's URI.

The tracking store and the registry lie below FOLDER, and nowhere else.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from mlops.core import params
from mlops.core.paths import BUNDLE
from mlops.stages import register


def main(bundle: Path, folder: Path) -> str:
    """The URI of the version that holds the bundle."""
    fetched = folder / "fetched"
    shutil.copytree(bundle, fetched / BUNDLE)
    knobs = params.load()
    version = register.adopt(knobs, folder, fetched, "benchmark")
    return f"models:/{knobs.model}/{version}"


if __name__ == "__main__":
    print(main(Path(sys.argv[1]), Path(sys.argv[2])))
