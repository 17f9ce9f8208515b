"""Register a bundle as the pipeline does: `BUNDLE FOLDER`; prints the model's URI.

The tracking store and the registry lie below FOLDER, and nowhere else.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import yaml

from mlops.contract import bundle
from mlops.contract.paths import BUNDLE
from mlops.registry import register


def main(served: Path, folder: Path) -> str:
    """The URI of the version that holds the bundle."""
    fetched = folder / "fetched"
    shutil.copytree(served, fetched / BUNDLE)
    version = register.adopt(folder, fetched, "benchmark")
    for card in folder.glob("mlruns/artifacts/**/MLmodel"):
        _use_one_thread(card)
    return f"models:/{bundle.read_card(served).name}/{version}"


def _use_one_thread(card: Path) -> None:
    """One thread, as the others have: a second one would spin on the same core."""
    content = yaml.safe_load(card.read_text())
    content["flavors"]["onnx"]["onnx_session_options"] = {"intra_op_num_threads": 1}
    card.write_text(yaml.safe_dump(content))


if __name__ == "__main__":
    print(main(Path(sys.argv[1]), Path(sys.argv[2])))
