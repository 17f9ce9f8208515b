"""What made a bundle, as hashes: code, data, parameters and the holdout."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from mlops.base.files import digest_of, sha256
from mlops.contract import dataset, stages
from mlops.contract.paths import FEATURES
from mlops.training.params import Params

PARAMETERS = ("project", "model", "seed", "threads", "data", "split", "tune", "train")


def hashes(params: Params, root: Path) -> dict[str, str]:
    """SHA-256 of the training code and lock, the training rows, the parameters, the holdout.

    The code is what `dvc.yaml` says `train` depends on, which every stage checks as it ends.
    """
    settings = params.model_dump(mode="json", include=set(PARAMETERS))
    # Where the rows lay is not in the model; the rows are, under their own hash.
    settings["data"] = {"until": settings["data"]["until"]}
    return {
        "code": digest_of({path: sha256(root / path) for path in code(params, root)}),
        "data": sha256(root / FEATURES / dataset.TRAINING),
        "parameters": hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest(),
        "holdout": sha256(root / FEATURES / dataset.HOLDOUT),
    }


def code(params: Params, root: Path) -> list[str]:
    """The source files and the lock that `dvc.yaml` names for training, folders file by file."""
    named = [root / path for path in stages.dependencies("train", params.project, root)]
    files = [file for path in named for file in (path, *path.rglob("*")) if file.is_file()]
    paths = {file.relative_to(root).as_posix() for file in files}
    return sorted(path for path in paths if path.endswith((".py", ".lock")))
