"""The places that a scoring writes to, and how finished work gets its name there.

out.parquet/                   the predictions: a folder of Parquet files, or one CSV file
out.parquet.rejected.parquet   the rows that were refused, where there are any
out.parquet.json               the receipt: of what, by which bundle, how many
.out.parquet.work/             the same half done; gone at the end, used again after a kill
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
    """What is scored by what: work that another job left can't be used."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    bundle: str
    engine: str
    rows_per_part: int
    input: list[dict[str, Any]]

    @classmethod
    def of(cls, content: dict[str, Any]) -> Job:
        """What a job or a receipt says of the job; raises ValidationError."""
        return Job.model_validate({name: content.get(name) for name in Job.model_fields})


class Receipt(Job):
    """A finished job: rows scored, rows refused."""

    rows: int
    refused: int
    output: str

    @property
    def line(self) -> str:
        """What came out, for the screen."""
        refused = f", {self.refused:,} refused" if self.refused else ""
        return f"bundle {self.bundle[:12]}: {self.rows:,} rows scored{refused}: {self.output}"


@dataclass(frozen=True)
class Output:
    """Where the predictions go, and what lies beside them."""

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
        """What the output says it is; None when there is none.

        Raises UserError when something else is there: it is not for us to replace.
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
    """Give finished work its name; once it has begun, it can be repeated until it is through."""
    made = output.work / "receipt.json"
    if not made.exists():
        return
    rejected = output.work / "rejected.parquet"
    if rejected.exists():
        rejected.replace(output.rejected)
    elif not read_json(made)["refused"]:
        output.rejected.unlink(missing_ok=True)
    whole = output.work / ("whole.csv" if output.csv else "scored")
    if whole.exists():
        _replace(output.path, whole, output.work / "old")
    made.replace(output.receipt)
    shutil.rmtree(output.work)


def _replace(target: Path, made: Path, old: Path) -> None:
    """A folder can't take another one's place: the old one goes first."""
    if target.is_dir():
        shutil.rmtree(old, ignore_errors=True)
        target.rename(old)
    made.replace(target)


@contextmanager
def alone(output: Output) -> Iterator[None]:
    """Own the folder of work; the lock dies with its process."""
    while True:
        output.work.mkdir(exist_ok=True)
        place = os.open(output.work, os.O_RDONLY)
        try:
            fcntl.flock(place, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Whoever had it may just have removed it.
            if output.work.exists() and os.path.samestat(os.stat(output.work), os.fstat(place)):
                break
        except BlockingIOError:
            os.close(place)
            raise Refused(f"{output.path}: another run writes it") from None
        except OSError:  # Some network file systems know no locks.
            break
        os.close(place)
    try:
        yield
    finally:
        # There is nothing in it when nothing was begun.
        with suppress(OSError):
            output.work.rmdir()
        os.close(place)
