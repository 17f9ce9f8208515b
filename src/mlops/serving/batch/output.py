"""A job's work: the parts of its output, written one by one, and published when all are there.

out/                   the predictions: a folder of Parquet files, or one CSV file
out.rejected.parquet   the refused rows, where there are any
out.json               the receipt: input, bundle, numbers of rows
.out.work/JOB/         unfinished work; the next run goes on with it after an interruption
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from uuid import uuid4

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import csv
from pydantic import BaseModel, ConfigDict, ValidationError

from mlops.base.errors import Refused, UserError, one_line
from mlops.base.files import read_json, write_json
from mlops.serving.batch import table
from mlops.serving.batch.source import Piece
from mlops.serving.model import Model

WORK, RECEIPT, REJECTED = ".{}.work", "{}.json", "{}.rejected.parquet"
WHOLE_CSV = "whole.csv"
# The copy of a table, beside the jobs' folders.
COPY = "table"


class Receipt(BaseModel):
    """A finished job, an input and the bundle that scored it, with the numbers of rows."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    bundle: str
    engine: str
    rows_per_part: int
    input: list[dict[str, Any]]
    rows: int
    refused: int
    output: str
    # The bytes of each file of the output, by its name.
    files: dict[str, int] = {}

    @property
    def line(self) -> str:
        """The result in one line."""
        rejected = _beside(Path(self.output), REJECTED)
        refused = f", {self.refused:,} refused (reasons in {rejected})" if self.refused else ""
        return f"bundle {self.bundle[:12]}: {self.rows:,} rows scored{refused}: {self.output}"


@dataclass(frozen=True)
class Work:
    """The folder of one job; of several processes that write a part, each writes the same bytes."""

    output: Path
    job: dict[str, Any]

    @cached_property
    def folder(self) -> Path:
        digest = hashlib.sha256(json.dumps(self.job, sort_keys=True).encode()).hexdigest()
        return _beside(self.output, WORK) / digest[:16]

    @cached_property
    def done(self) -> set[str]:
        """The names of the pieces that are scored."""
        return {path.stem for path in (self.folder / "scored").iterdir()}

    def begin(self, schema: pa.Schema) -> Receipt | None:
        """Keep the parts of an earlier run of this job; the receipt where it is finished.

        Raises UserError when no scoring wrote the output, when a file of it is not as it was
        written, or when it can't hold these columns.
        """
        publish(self.output)
        if self.output.exists():
            try:
                receipt = Receipt.model_validate(read_json(_beside(self.output, RECEIPT)))
            except (FileNotFoundError, ValueError, ValidationError):
                raise UserError(
                    f"{self.output}: found something that no scoring wrote, expected a new name"
                ) from None
            if receipt.model_dump(include=set(self.job)) == self.job:
                _require_whole(self.output, receipt)
                return receipt
        if _is_csv(self.output):
            try:
                csv.CSVWriter(os.devnull, schema).close()
            except pa.ArrowException as error:
                raise UserError(f"{self.output}: CSV can't hold this: {one_line(error)}") from None
        for other in _beside(self.output, WORK).iterdir():
            if other.name not in (self.folder.name, COPY):
                shutil.rmtree(other) if other.is_dir() else other.unlink()
        for name in ("scored", "refused"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        return None

    def score(self, model: Model, piece: Piece) -> None:
        """Score a piece; write its refused rows, where there are any, and then its part."""
        scored, reasons = table.score(piece.table, model, text=piece.file.text)
        if reasons or piece.malformed:
            with self._whole(f"refused/{piece.name}.parquet") as path:
                pq.write_table(piece.refused(reasons), path)
        # Scores hardly repeat: a dictionary of them would cost time and bytes.
        repeated = [name for name in scored.column_names if name not in model.card.outputs]
        with self._whole(f"scored/{piece.name}.parquet") as path:
            pq.write_table(scored, path, use_dictionary=repeated)

    def finish(self) -> Receipt:
        """Put the parts together and publish them."""
        counts = []
        for name, merged, writer in (
            ("scored", WHOLE_CSV if _is_csv(self.output) else "", csv.CSVWriter),
            ("refused", "rejected.parquet", pq.ParquetWriter),
        ):
            parts = sorted((self.folder / name).iterdir())
            counts.append(sum(pq.read_metadata(part).num_rows for part in parts))
            if parts and merged:
                with self._whole(merged) as path, writer(path, pq.read_schema(parts[0])) as whole:
                    for part in parts:
                        whole.write_table(pq.read_table(part, partitioning=None))
        rows, refused = counts
        files = _sizes(self.folder / _whole_name(self.output))
        receipt = Receipt(
            **self.job, rows=rows, refused=refused, files=files, output=str(self.output)
        )
        write_json(self.folder / "receipt.json", receipt.model_dump(mode="json"))
        publish(self.output)
        return receipt

    @contextmanager
    def _whole(self, name: str) -> Iterator[Path]:
        """Write a file whole or not at all; what a killed process leaves is never published."""
        partial = self.folder / uuid4().hex
        yield partial
        partial.replace(self.folder / name)


def _sizes(output: Path) -> dict[str, int]:
    """The bytes of each file of an output; a CSV file has no name."""
    if output.is_dir():
        return {path.name: path.stat().st_size for path in sorted(output.iterdir())}
    return {"": output.stat().st_size}


def _require_whole(output: Path, receipt: Receipt) -> None:
    found = _sizes(output)
    for name in sorted(receipt.files.keys() | found.keys() if receipt.files else ()):
        if found.get(name) != receipt.files.get(name):
            raise UserError(
                f"{output / name}: found {found.get(name, 'no file')}, expected "
                f"{receipt.files.get(name, 'no file')} bytes as in {_beside(output, RECEIPT)}; "
                f"remove {output} to score again"
            )


def publish(output: Path) -> None:
    """Move finished work to its output; repeatable after an interruption at any point."""
    for receipt in _beside(output, WORK).glob("*/receipt.json"):
        work, rejected = receipt.parent, _beside(output, REJECTED)
        if (work / "rejected.parquet").exists():
            (work / "rejected.parquet").replace(rejected)
        elif not read_json(receipt)["refused"]:
            rejected.unlink(missing_ok=True)
        whole = work / _whole_name(output)
        if whole.exists():
            # A folder can't be renamed to a name that is taken.
            if output.is_dir():
                shutil.rmtree(work / "old", ignore_errors=True)
                output.rename(work / "old")
            whole.replace(output)
        receipt.replace(_beside(output, RECEIPT))
        # Half of a removed folder must not be taken for work to go on with.
        work.rename(work.with_name("published"))
    shutil.rmtree(_beside(output, WORK) / "published", ignore_errors=True)


@contextmanager
def locked(output: Path) -> Iterator[Path]:
    """Lock and yield the folder of work, which is removed when it holds nothing unfinished.

    The lock ends with its process. Raises Refused when another process holds it.
    """
    work = _beside(output, WORK)
    work.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(work, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # The run that held the lock may just have removed the folder.
        if not os.path.samestat(os.stat(work), os.fstat(descriptor)):
            raise BlockingIOError
    except (BlockingIOError, FileNotFoundError):
        os.close(descriptor)
        raise Refused(f"{output}: another run writes it") from None
    except OSError:  # Some network file systems know no locks.
        pass
    try:
        yield work
    finally:
        if not list(work.glob("*/scored")):
            shutil.rmtree(work)
        os.close(descriptor)


def _is_csv(output: Path) -> bool:
    return output.suffix == ".csv"


def _whole_name(output: Path) -> str:
    """What is published of a job's folder: the folder of parts, or one CSV file."""
    return WHOLE_CSV if _is_csv(output) else "scored"


def _beside(output: Path, name: str) -> Path:
    return output.with_name(name.format(output.name))
