"""The same scoring on Spark's executors, by `mapInArrow`.

Executors need this package, PyArrow and ONNX Runtime, and no pandas; the bundle is sent with the
function. Driver and executors both see the input and the output. Files are scored in groups, each
a Spark job of its own, so that a run that was interrupted goes on at a group.
"""

from __future__ import annotations

import re
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from mlops.base.errors import UserError
from mlops.data import engine
from mlops.serving import model
from mlops.serving.batch import source, table
from mlops.serving.batch.formats import FORMATS, File
from mlops.serving.batch.output import Job, Output, Receipt
from mlops.serving.batch.work import ORIGIN, Work, open_work
from mlops.serving.model import Model

NAME = re.compile(r"\w+(\.\w+){0,2}")
FILES, BYTES = 32, 2**33
CORRUPT, FILE, ROW = "_corrupt_record", "_scored_file", "_scored_row"
TYPES = {pa.float64(): "double", pa.int64(): "long", pa.bool_(): "boolean"}
# Rows that cross between the JVM and Python at a time.
BATCH = 2**15

_loaded: dict[str, Model] = {}


@dataclass(frozen=True)
class Shipped:
    """A bundle as bytes, to be loaded once in each process that scores."""

    digest: str
    files: dict[str, bytes]
    text: bool

    def load(self) -> Model:
        if self.digest not in _loaded:
            with tempfile.TemporaryDirectory() as folder:
                for name, content in self.files.items():
                    (Path(folder) / name).write_bytes(content)
                _loaded[self.digest] = model.load(Path(folder))
        return _loaded[self.digest]

    def score(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """For `mapInArrow`: the rows that are not refused, with their outputs."""
        loaded = self.load()
        for batch in batches:
            rows = pa.Table.from_batches([batch])
            yield from table.scored(rows, loaded, text=self.text).table.to_batches()

    def refuse(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """For `mapInArrow`: the refused rows with file, number and reason."""
        loaded, seen = self.load(), dict[str, Iterator[int]]()
        for batch in batches:
            rows = pa.Table.from_batches([batch])
            yield from _refused(rows, loaded, self.text, seen).to_batches()


@dataclass(frozen=True)
class Input:
    """The rows to score: files, or where there is no `source` the table of that name."""

    name: str
    source: source.Source | None

    @property
    def text(self) -> bool:
        return self.source is not None and self.source.format.text

    def groups(self) -> list[tuple[File, ...]]:
        """The files of each Spark job."""
        groups: list[list[File]] = []
        size = BYTES
        for file in self.source.files if self.source else ():
            if size >= BYTES or len(groups[-1]) == FILES:
                groups.append([])
                size = 0
            groups[-1].append(file)
            size += file.path.stat().st_size
        return [tuple(group) for group in groups] or [()]

    def rows(self, group: tuple[File, ...]) -> int | None:
        """The number of rows, where it is known without reading them."""
        counts = [self.source.format.rows(file) for file in group] if self.source else [None]
        return None if None in counts else sum(filter(None, counts))

    def frame(self, session: Any, group: Sequence[File]) -> Any:
        """The group's rows in the order of its files, with columns for file and number."""
        from pyspark.sql import functions as F

        if self.source is None:
            rows = session.table(self.name).withColumn(FILE, F.lit(self.name))
            return rows.withColumn(ROW, F.lit(None).cast("bigint"))
        frames = [self._file(session, file) for file in group]
        return reduce(lambda one, other: one.unionByName(other), frames)

    def identity(self) -> list[dict[str, Any]]:
        """Of a table it is not known whether it has changed: it is another input each time."""
        if self.source is None:
            return [{"table": self.name, "read": time.time_ns()}]
        return self.source.identity()

    def _file(self, session: Any, file: File) -> Any:
        from pyspark.sql import functions as F

        path = str(file.path.resolve())
        assert self.source is not None
        if not self.text:
            read = session.read.parquet(path)
            row = F.col("_metadata.row_index")
        else:
            fields = ", ".join(f"`{name}` string" for name in self.source.schema.names)
            read = session.read.csv(
                path, schema=f"{fields}, {CORRUPT} string", header=True, multiLine=True,
                quote='"', escape='"', columnNameOfCorruptRecord=CORRUPT, enforceSchema=True,
            )  # fmt: skip
            row = F.lit(None).cast("bigint")
        located = read.withColumn(FILE, F.lit(file.label)).withColumn(ROW, row)
        for name, value in file.keys.items():
            if name not in read.columns:
                located = located.withColumn(name, F.lit(value))
        return located


def run(loaded: Model, bundle: Path, name: str, output: Path) -> Receipt:
    """Score on Spark, for `batch.run`."""
    scored = Input(name, None if _names_a_table(name) else source.find(name))
    if scored.source:
        _require_spark_reads(scored.source)
        table.require(scored.source.schema, loaded, scored.source.files[0].label, text=scored.text)
        scored.source.require_alike()
    session = engine.start("spark")
    session.conf.set("spark.sql.execution.arrow.maxRecordsPerBatch", str(BATCH))
    shipped = Shipped(loaded.digest, _files(bundle), scored.text)
    job = Job(
        model=loaded.card.name, bundle=loaded.digest, engine="spark", rows_per_part=0,
        input=scored.identity(),
    )  # fmt: skip
    with open_work(Output(output), job) as work:
        if not isinstance(work, Work):
            return work
        for number, group in enumerate(scored.groups()):
            if f"{number:05}-00000" not in work.done:
                _score(session, scored, group, shipped, loaded, work, number)
        if scored.source and scored.identity() != job.input:
            raise UserError(f"{name}: changed while it was read; run it again")
        return work.finish()


def _names_a_table(name: str) -> bool:
    endings = tuple(ending for format in FORMATS for ending in format.endings)
    return bool(NAME.fullmatch(name)) and not Path(name).exists() and not name.endswith(endings)


def _require_spark_reads(rows: source.Source) -> None:
    if rows.files[0].table:
        raise UserError(
            f"{rows.files[0].label}: found a table of DuckDB, expected files or a table of "
            "Spark's; the engine duckdb reads it"
        )


def _files(bundle: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in bundle.iterdir() if path.is_file()}


def _score(
    session: Any, scored: Input, group: tuple[File, ...], shipped: Shipped, loaded: Model,
    work: Work, number: int,
) -> None:  # fmt: skip
    """Score one group as one Spark job: write its parts, then its refused rows."""
    frame = _read(session, scored, group)
    rows = frame.drop(FILE, ROW)
    if scored.text:
        rows = rows.where(f"{CORRUPT} is null").drop(CORRUPT)
    if not scored.source:
        table.require(_arrow(rows.schema), loaded, scored.name)
    work.clear(number)
    outputs = _tagged(rows.mapInArrow(shipped.score, _schema(rows, loaded)), loaded)
    counted = work.take(number, _written(outputs, work, "scored"))
    refused, schema = [], _refused_schema(rows)
    if counted != scored.rows(group):
        refused = _written(frame.mapInArrow(shipped.refuse, schema), work, "refused")
    work.refuse(number, refused, counted, _arrow(schema))


def _written(frame: Any, work: Work, name: str) -> list[Path]:
    """Have Spark write a frame; returns the files in the order of its rows."""
    folder = work.spark / name
    frame.write.parquet(str(folder.resolve()))
    return sorted(folder.glob("part-*.parquet"))


def _read(session: Any, scored: Input, group: tuple[File, ...]) -> Any:
    from pyspark.errors import AnalysisException

    try:
        frame = scored.frame(session, group)
        frame.schema  # noqa: B018, a remote session resolves it here.
    except AnalysisException as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{scored.name}: can't be read: {reason}") from None
    return frame


def _arrow(schema: Any) -> pa.Schema:
    from pyspark.sql.pandas.types import to_arrow_schema

    converted: pa.Schema = to_arrow_schema(schema)
    return converted


def _schema(rows: Any, loaded: Model) -> Any:
    from pyspark.sql.types import StructType

    schema = StructType(list(rows.schema.fields))
    for field in table.output_fields(loaded.card):
        schema = schema.add(field.name, TYPES[field.type])
    return schema


def _refused_schema(rows: Any) -> Any:
    from pyspark.sql.types import LongType, StringType, StructType

    schema = StructType().add("file", StringType()).add("row", LongType())
    schema = schema.add("reason", StringType())
    taken = set(schema.names)
    for field in rows.schema:
        schema = schema if field.name in taken else schema.add(field)
    return schema


def _tagged(frame: Any, loaded: Model) -> Any:
    """Put the bundle's name on each output column; Spark writes it to the files' metadata."""
    for field in table.output_fields(loaded.card):
        frame = frame.withMetadata(field.name, table.metadata(loaded))
    return frame


def _refused(rows: pa.Table, loaded: Model, text: bool, seen: dict[str, Iterator[int]]) -> pa.Table:
    """The refused rows of a batch. A CSV file is read by one task, which counts its rows."""
    files, numbers = rows.column(FILE), rows.column(ROW)
    if text:
        counted = [next(seen.setdefault(file, count())) for file in files.to_pylist()]
        numbers = pa.chunked_array([pa.array(counted, type=pa.int64())])
    _, reasons = table.read(rows, loaded, text=text)
    if text:
        malformed = np.flatnonzero(rows.column(CORRUPT).is_valid().to_numpy()).tolist()
        reasons |= dict.fromkeys(malformed, "found another number of fields than the header has")
    positions = pa.array(sorted(reasons), type=pa.int64())
    taken = {CORRUPT, FILE, ROW, "reason", *(field.name for field in ORIGIN)}
    kept = rows.select([name for name in rows.column_names if name not in taken])
    refused = pa.table({
        "file": files.take(positions), "row": numbers.take(positions),
        "reason": pa.array([reasons[row] for row in positions.to_pylist()], type=pa.string()),
    })  # fmt: skip
    for name in kept.column_names:
        refused = refused.append_column(kept.schema.field(name), kept.column(name).take(positions))
    return refused
