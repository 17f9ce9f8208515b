"""An AutoML job on the bundle's own columns and rows, as a baseline.

    python -m infra.azureml.automl

Writes `.run/azureml-automl/`: `job.yaml` of `automl.yaml` beside this file, and as tables the
training rows and the holdout, with the bundle's inputs and its target alone: no keys and no days.
"""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from mlops.base.errors import UserError
from mlops.base.files import whole_folder
from mlops.contract import bundle, dataset
from mlops.contract.paths import BUNDLE, FEATURES, not_found
from mlops.deploy import specification
from mlops.pipeline import stage

JOB = Path("infra/azureml/automl.yaml")
MADE = Path(".run/azureml-automl")
TABLES = {"training": dataset.TRAINING, "holdout": dataset.HOLDOUT}
# Azure ML's names of a task, and of what is measured as in the report.
TASKS = {
    "binary": ("classification", "AUC_weighted"),
    "multiclass": ("classification", "AUC_weighted"),
    "regression": ("regression", "normalized_root_mean_squared_error"),
}


def write(root: Path) -> Path:
    """Write the job with its data; gives its folder. Raises UserError without bundle or tables."""
    import pyarrow.parquet as parquet

    card = bundle.read_card(root / BUNDLE)
    for file in TABLES.values():
        if not (root / FEATURES / file).is_file():
            raise UserError(not_found(FEATURES / file))
    task, metric = TASKS[card.task]
    values = {"experiment": re.sub(r"[^\w-]", "-", card.name), "task": task, "metric": metric,
              "target": card.target}  # fmt: skip
    job = specification.load(root, JOB, values)
    columns = [*(column.name for column in card.inputs), card.target]
    with whole_folder(root / MADE) as folder:
        (folder / "job.yaml").write_text(yaml.safe_dump(job, sort_keys=False))
        for name, file in TABLES.items():
            (folder / name).mkdir()
            table = parquet.read_table(root / FEATURES / file, columns=columns)
            parquet.write_table(table, folder / name / file)
            content = {"paths": [{"file": f"./{file}"}], "transformations": ["read_parquet"]}
            (folder / name / "MLTable").write_text(yaml.safe_dump(content))
    return root / MADE


def main() -> None:
    """Write the job of this folder's bundle."""
    print(f"{write(Path()) / 'job.yaml'}: written")


if __name__ == "__main__":
    raise SystemExit(stage.guarded(main))
