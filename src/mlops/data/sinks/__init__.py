"""Where predictions go: one file per kind of sink, each with `replace`.

`replace(location, name, day, batches)` writes all rows of one day to the table `name`; each row has
that day in the date column `day`. Earlier rows of the day are gone then, those of other days are as
they were. A process that is killed leaves the day old or new, never mixed; the same rows written
again change nothing; of two that write a day at once one is whole, or one is refused. Raises
UserError in one line, and then nothing is written.
"""

from __future__ import annotations

import datetime as dt
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from mlops.contract import extensions

if TYPE_CHECKING:
    import pyarrow as pa

Replace = Callable[[str, str, dt.date, "pa.RecordBatchReader"], None]


def sink(name: str, setting: str = "params.yaml: predict.sink") -> Replace:
    """The `replace` of the sink that a setting names. Raises UserError for an unknown one."""
    replace: Replace = extensions.resolve(setting, name, __name__, ["replace"]).replace
    return replace


@contextmanager
def kept(batches: pa.RecordBatchReader, day: dt.date) -> Iterator[pa.RecordBatchReader]:
    """The same rows from a temporary file, so that no error of theirs comes amid the writing.

    Raises ValueError for a row of another day, which the next write would not replace.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    with tempfile.TemporaryFile() as file:
        with pa.ipc.new_stream(file, batches.schema) as writer:
            for batch in batches:
                days = pc.unique(batch.column("day")).to_pylist()
                if days not in ([], [day]):
                    raise ValueError(f"expected rows of {day} alone, found {days}")
                writer.write_batch(batch.cast(batches.schema))
        file.seek(0)
        yield pa.ipc.open_stream(file)
