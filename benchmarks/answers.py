"""Samples as the service would have written them for a pinned bundle, and their labels."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.figure import Failed
from mlops.base.files import folder_digest
from mlops.contract.bundle import Array
from mlops.contract.paths import BUNDLE, EVIDENCE
from mlops.deploy import manifest
from mlops.registry.store import STORE
from mlops.serving import model
from mlops.serving.batch.table import read
from mlops.serving.model import Model
from mlops.serving.samples import Sample, lines
from tests.mlops.deploy import small

if TYPE_CHECKING:
    import pandas as pd

ENVIRONMENT = "production"
LOGS, LABELS = Path("answers"), Path("came-true")
# Rows of one request.
REQUEST_ROWS = 10_000


def write(
    root: Path, served: Model, rows: pd.DataFrame, until: datetime, hours: float,
    labels: Sequence[float] = (),
) -> None:  # fmt: skip
    """Score these rows, evenly over so many hours up to `until`; a file for each request.

    Earlier samples and labels are removed.
    """
    for name in (LOGS, LABELS):
        shutil.rmtree(root / name, ignore_errors=True)
        (root / name).mkdir()
    start, step = (until - timedelta(hours=hours)).timestamp(), hours * 3600 / len(rows)
    for first in range(0, len(rows), REQUEST_ROWS):
        asked = rows.iloc[first : first + REQUEST_ROWS]
        moment = start + step * (first + len(asked) / 2)
        _, logged = answer(served, asked, f"r{first}", moment)
        file = root / LOGS / f"predictions-{first}.jsonl"
        file.write_text("\n".join(logged) + "\n")
    if len(labels):
        row = np.arange(len(labels)) % REQUEST_ROWS
        requests = [f"r{first}" for first in np.arange(len(labels)) - row]
        columns = {"request": requests, "row": row, served.card.target: labels}
        pq.write_table(pa.table(columns), root / LABELS / "labels.parquet")


def answer(
    served: Model, rows: pd.DataFrame, request: str, moment: float
) -> tuple[list[Array], list[str]]:
    """Score the rows of one request: the outputs, and the lines that the service logs of them.

    Raises Failed when the service would refuse a row.
    """
    batch, refused = read(pa.Table.from_pandas(rows), served)
    if refused:
        raise Failed(f"{request}: row {min(refused)}: {refused[min(refused)]}")
    outputs = served.score(batch)
    return outputs, list(lines(Sample(moment, request, served, batch, outputs, size=0)))


def pin(root: Path) -> Model:
    """Pin the bundle in the workspace, as a release would, without a forge."""
    digest, evidence = folder_digest(root / BUNDLE), folder_digest(root / EVIDENCE)
    for part in (BUNDLE, EVIDENCE):
        shutil.copytree(root / part, root / STORE / digest / part)
    pinned = small.pin(digest).model_copy(update={"evidence": evidence})
    file = root / manifest.path(ENVIRONMENT)
    file.write_text(manifest.with_pin(file.read_text(), pinned))
    return model.load(root / BUNDLE, "1")
