"""The same scoring on Spark's executors: each task scores the pieces of one span of rows.

Executors need this package, PyArrow and ONNX Runtime, and no pandas. They see the input and the
output by the same paths as the driver.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path

import pyarrow as pa

from mlops.base.errors import UserError
from mlops.data import engine
from mlops.serving import model
from mlops.serving.batch import source, table
from mlops.serving.batch.output import COPY, Work
from mlops.serving.batch.source import ENDINGS, Source
from mlops.serving.model import Model

NAME = re.compile(r"\w+(\.\w+){0,2}")


@cache
def _loaded(bundle: Path) -> Model:
    """The bundle, loaded once in each process that scores."""
    return model.load(bundle)


def find(name: str, work: Path, loaded: Model) -> Source:
    """The files that a user names, or a table of Spark as Parquet files below `work`."""
    from pyspark.errors import AnalysisException
    from pyspark.sql.pandas.types import to_arrow_schema

    if not NAME.fullmatch(name) or Path(name).exists() or name.endswith(ENDINGS):
        return source.find(name)
    session = engine.start("spark")
    try:
        frame = session.table(name)
        schema = to_arrow_schema(frame.schema, timezone="UTC")
    except AnalysisException as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{name}: can't be read: {reason}") from None
    table.require(schema, loaded, name)
    # As the files of the other engine have it.
    session.conf.set("spark.sql.parquet.outputTimestampType", "TIMESTAMP_MICROS")
    frame.write.mode("overwrite").parquet(str(work.absolute() / COPY))
    files = source.find(str(work / COPY)).files
    return Source(tuple(replace(file, label=name, table=name, ordered=False) for file in files))


def score(bundle: Path, rows: Source, work: Work) -> None:
    """Score the pieces that are missing, a Spark task for each span; the first failure ends it."""
    work = replace(work, output=work.output.absolute())
    shutil.copytree(bundle, work.folder / "bundle", dirs_exist_ok=True)
    schema, spans = rows.schema, list(rows.spans())

    def scored(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """For `mapInArrow`: score the spans of these numbers; gives what a user must mend."""
        loaded = _loaded(work.folder / "bundle")
        for number in (number for batch in batches for number in batch["id"].to_pylist()):
            try:
                for piece in spans[number].pieces(schema):
                    if piece.name not in work.done:
                        work.score(loaded, piece)
            except UserError as error:
                yield pa.record_batch({"error": [str(error)]})

    numbers = engine.start("spark").range(0, len(spans), 1, len(spans))
    for row in numbers.mapInArrow(scored, "error string").collect():
        raise UserError(row.error)
