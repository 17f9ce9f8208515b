"""Register a bundle as the pipeline does: `BUNDLE FOLDER`; prints the model's URI.

The tracking store and the registry lie below FOLDER, and nowhere else.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import yaml

from mlops.contract import params
from mlops.contract.paths import BUNDLE
from mlops.registry import register


def main(bundle: Path, folder: Path) -> str:
    """The URI of the version that holds the bundle."""
    fetched = folder / "fetched"
    shutil.copytree(bundle, fetched / BUNDLE)
    knobs = params.load_all()
    version = register.adopt(folder, fetched, "benchmark")
    for card in folder.glob("mlruns/artifacts/**/MLmodel"):
        _use_one_thread(card)
    return f"models:/{knobs.model}/{version}"


def _use_one_thread(card: Path) -> None:
    """As all the others: ONNX Runtime's second thread would spin on the core of the first."""
    content = yaml.safe_load(card.read_text())
    content["flavors"]["onnx"]["onnx_session_options"] = {"intra_op_num_threads": 1}
    card.write_text(yaml.safe_dump(content))


if __name__ == "__main__":
    print(main(Path(sys.argv[1]), Path(sys.argv[2])))
