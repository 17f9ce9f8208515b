"""The stages of a training, in their order: where each is found, and what it depends on."""

from __future__ import annotations

from pathlib import Path

from mlops.base import documents
from mlops.base.errors import UserError

PIPELINE = Path("dvc.yaml")
# What DVC writes of the last run of each stage.
RECORD = Path("dvc.lock")
MODULES = {
    "ingest": "mlops.data.ingest",
    "featurize": "mlops.data.featurize",
    "tune": "mlops.training.tune",
    "train": "mlops.training.train",
    "evaluate": "mlops.evaluation.evaluate",
    "register": "mlops.registry.register",
}
# Runs before ingest, every time: the state of what the source reads is a parameter of ingest.
FINGERPRINT = "fingerprint"
# A model version is in a registry and not in a file: DVC does not know of the stage that makes it.
MADE_BY_DVC = tuple(stage for stage in MODULES if stage != "register")


def dependencies(stage: str, project: str, root: Path) -> list[str]:
    """The files and folders that `dvc.yaml` names as a stage's dependencies."""
    stages = documents.read(root / PIPELINE, "the pipeline's stages").get("stages", {})
    if stage not in stages:
        raise UserError(f"{root / PIPELINE}: stages: {stage}: missing")
    return [path.replace("${project}", project) for path in stages[stage]["deps"]]
