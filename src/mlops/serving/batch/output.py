"""The files of an output, and how finished work is moved there.

out/                   the predictions: a folder of Parquet files, or one CSV file
out.rejected.parquet   the refused rows, where there are any
out.json               the receipt: input, bundle, numbers of rows
.out.work/             unfinished work; the next run goes on with it after an interruption
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from mlops.base.errors import Refused, UserError
from mlops.base.files import read_json


class Job(BaseModel):
    """An input and the bundle that scores it; the unfinished work of another job is not used."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    bundle: str
    engine: str
    rows_per_part: int
    input: list[dict[str, Any]]

    @classmethod
    def of(cls, content: dict[str, Any]) -> Job:
        """The job of a job's or a receipt's file; raises ValidationError."""
        return Job.model_validate({name: content.get(name) for name in Job.model_fields})


class Receipt(Job):
    """A finished job, with the numbers of rows scored and refused."""

    rows: int
    refused: int
    output: str

    @property
    def line(self) -> str:
        """The result in one line."""
        refused = f", {self.refused:,} refused" if self.refused else ""
        return f"bundle {self.bundle[:12]}: {self.rows:,} rows scored{refused}: {self.output}"


@dataclass(frozen=True)
class Output:
    """The predictions' path, and the paths beside it."""

    path: Path

    @property
    def csv(self) -> bool:
        return self.path.suffix == ".csv"

    @property
    def rejected(self) -> Path:
        return self.path.with_name(f"{self.path.name}.rejected.parquet")

    @property
    def receipt(self) -> Path:
        return self.path.with_name(f"{self.path.name}.json")

    @property
    def work(self) -> Path:
        return self.path.with_name(f".{self.path.name}.work")

    def finished(self) -> Receipt | None:
        """The receipt of the output, None when there is no output.

        Raises UserError for a file or folder that no scoring wrote: it is not replaced.
        """
        if not self.path.exists():
            return None
        try:
            return Receipt.model_validate(read_json(self.receipt))
        except (FileNotFoundError, ValueError, ValidationError):
            raise UserError(
                f"{self.path}: found something that no scoring wrote, expected a new name"
            ) from None


def publish(output: Output) -> None:
    """Move finished work to its output; repeatable after an interruption at any point."""
    receipt = output.work / "receipt.json"
    if not receipt.exists():
        return
    rejected = output.work / "rejected.parquet"
    if rejected.exists():
        rejected.replace(output.rejected)
    elif not read_json(receipt)["refused"]:
        output.rejected.unlink(missing_ok=True)
    whole = output.work / ("whole.csv" if output.csv else "scored")
    if whole.exists():
        _replace(output.path, whole, output.work / "old")
    receipt.replace(output.receipt)
    shutil.rmtree(output.work)


def _replace(target: Path, new: Path, old: Path) -> None:
    """Replace a file or a folder; a folder can't be renamed to a name that is taken."""
    if target.is_dir():
        shutil.rmtree(old, ignore_errors=True)
        target.rename(old)
    new.replace(target)


@contextmanager
def locked(output: Output) -> Iterator[None]:
    """Lock the folder of work; the lock ends with its process."""
    while True:
        output.work.mkdir(exist_ok=True)
        descriptor = os.open(output.work, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # The process that held the lock may just have removed the folder.
            if output.work.exists() and os.path.samestat(
                os.stat(output.work), os.fstat(descriptor)
            ):
                break
        except BlockingIOError:
            os.close(descriptor)
            raise Refused(f"{output.path}: another run writes it") from None
        except OSError:  # Some network file systems know no locks.
            break
        os.close(descriptor)
    try:
        yield
    finally:
        # It is empty when no work was begun.
        with suppress(OSError):
            output.work.rmdir()
        os.close(descriptor)
