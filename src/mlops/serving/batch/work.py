"""A job's work: parts that are written one by one, and put together when all are there."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import csv
from pydantic import ValidationError

from mlops.base.errors import UserError
from mlops.base.files import read_json, whole_file, write_json
from mlops.serving.batch.output import Job, Output, Receipt, locked, publish

ORIGIN = (pa.field("file", pa.string()), pa.field("row", pa.int64()))


@dataclass(frozen=True)
class Work:
    """The locked folder of one job."""

    output: Output
    job: Job

    @property
    def scored(self) -> Path:
        return self.output.work / "scored"

    @property
    def refused(self) -> Path:
        return self.output.work / "refused"

    @cached_property
    def done(self) -> set[str]:
        """The names of the parts that are finished."""
        # A part's refused rows, even if there are none, are written last.
        names = {path.stem for path in self.refused.glob("*.parquet")}
        return {name for name in names if self._part(name).exists()}

    def write(self, name: str, table: pa.Table, refused: pa.Table, scores: Collection[str]) -> None:
        """Write a part, whole or not at all; `scores` are the columns of the model's numbers.

        Raises UserError for what CSV can't hold.
        """
        path = self._part(name)
        with whole_file(path) as unfinished:
            if self.output.csv:
                self._write_csv(table, unfinished, header=not int(name.replace("-", "")))
            else:
                # Scores hardly repeat: a dictionary of them would cost time and bytes.
                repeated = [column for column in table.column_names if column not in scores]
                pq.write_table(table, unfinished, use_dictionary=repeated)
        refused = refused.replace_schema_metadata({"rows": str(len(table))})
        with whole_file(self.refused / f"{name}.parquet") as unfinished:
            pq.write_table(refused, unfinished)

    @property
    def spark(self) -> Path:
        """The folder that Spark writes to."""
        return self.output.work / "spark"

    def clear(self, group: int) -> None:
        """Remove the unfinished parts of a group."""
        shutil.rmtree(self.spark, ignore_errors=True)
        for left in self.scored.glob(f"part-{group:05}-*"):
            left.unlink()

    def take(self, group: int, files: list[Path]) -> int:
        """Make files that Spark wrote the parts of a group; returns the number of their rows."""
        rows = 0
        for number, file in enumerate(files):
            rows += pq.read_metadata(file).num_rows
            path = self._part(f"{group:05}-{number:05}")
            if self.output.csv:
                with whole_file(path) as unfinished:
                    self._write_csv(pq.read_table(file), unfinished, header=not group + number)
            else:
                file.replace(path)
        return rows

    def refuse(self, group: int, files: list[Path], rows: int, schema: pa.Schema) -> None:
        """Write a group's refused rows and mark it finished; `rows` of it were scored."""
        with whole_file(self.refused / f"{group:05}-00000.parquet") as unfinished:
            described = schema.with_metadata({"rows": str(rows)})
            with pq.ParquetWriter(unfinished, described) as writer:
                for file in files:
                    table = pq.read_table(file)
                    writer.write_table(
                        table.cast(schema).replace_schema_metadata(described.metadata)
                    )

    def finish(self) -> Receipt:
        """Put the parts together and publish them."""
        counts = [pq.read_schema(path).metadata[b"rows"] for path in self._refused()]
        refused = self._merge_refused()
        if self.output.csv:
            self._merge_csv()
        receipt = Receipt(
            **self.job.model_dump(), rows=sum(map(int, counts)), refused=refused,
            output=str(self.output.path),
        )  # fmt: skip
        write_json(self.output.work / "receipt.json", receipt.model_dump(mode="json"))
        publish(self.output)
        return receipt

    def _part(self, name: str) -> Path:
        return self.scored / f"part-{name}.{'csv' if self.output.csv else 'parquet'}"

    def _refused(self) -> list[Path]:
        return sorted(self.refused.glob("*.parquet"))

    def _merge_refused(self) -> int:
        paths, count = self._refused(), 0
        target = self.output.work / "rejected.parquet"
        with whole_file(target) as unfinished:
            schema = pq.read_schema(paths[0]).remove_metadata()
            with pq.ParquetWriter(unfinished, schema) as writer:
                for path in paths:
                    table = pq.read_table(path, schema=schema)
                    count += len(table)
                    if len(table):
                        writer.write_table(table.replace_schema_metadata(None))
        if not count:
            target.unlink()
        return count

    def _write_csv(self, table: pa.Table, path: Path, header: bool) -> None:
        try:
            options = csv.WriteOptions(include_header=header, quoting_style="needed")
            csv.write_csv(table, path, options)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError) as error:
            reason = " ".join(str(error).split())
            raise UserError(f"{self.output.path}: CSV can't hold this: {reason}") from None

    def _merge_csv(self) -> None:
        whole = self.output.work / "whole.csv"
        with whole_file(whole) as unfinished, unfinished.open("wb") as target:
            for path in sorted(self.scored.glob("*.csv")):
                with path.open("rb") as part:
                    shutil.copyfileobj(part, target, 2**20)


@contextmanager
def open_work(output: Output, job: Job) -> Iterator[Work | Receipt]:
    """The job's work, with the parts of an earlier run of the same job; or the receipt of a
    finished one.

    Raises Refused when another process writes there, UserError when no scoring wrote the output.
    """
    output.path.parent.mkdir(parents=True, exist_ok=True)
    with locked(output):
        publish(output)
        receipt = output.finished()
        if receipt and Job.of(receipt.model_dump()) == job:
            shutil.rmtree(output.work)
            yield receipt
            return
        work = Work(output, job)
        _begin(work)
        yield work


def _begin(work: Work) -> None:
    state = work.output.work / "job.json"
    try:
        same = Job.of(read_json(state)) == work.job
    except (FileNotFoundError, ValueError, ValidationError):
        same = False
    if not same:
        for path in work.output.work.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        write_json(state, work.job.model_dump(mode="json"))
    for folder in (work.scored, work.refused):
        folder.mkdir(exist_ok=True)
        for unfinished in folder.glob(".*"):
            unfinished.unlink()
