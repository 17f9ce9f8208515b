"""The rows of one CSV or Parquet file as a stream."""

from __future__ import annotations

import gzip
import io
import re
import zipfile
from codecs import getincrementaldecoder
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from mlops.data.sources import Query

if TYPE_CHECKING:
    import pyarrow as pa

GZIP = b"\x1f\x8b"
UTF_16 = (b"\xff\xfe", b"\xfe\xff")
# Rows of Parquet that are read at once, and bytes of CSV, which no row may exceed.
ROWS, BLOCK = 2**16, 2**22
# What pandas calls an index without a name.
NAMELESS = re.compile(r"__index_level_\d+__")

# The names of all columns, and the batches of those asked for.
Opened = tuple[tuple[str, ...], Iterator["pa.RecordBatch"]]


def _unpacked(file: Any, name: str) -> Any:
    """The content of a file that may be packed."""
    if name.endswith(".gz"):
        return gzip.open(file)
    if not name.endswith(".zip"):
        return file
    archive = zipfile.ZipFile(file)
    names = [name for name in archive.namelist() if not name.startswith("__MACOSX/")]
    if len(names) != 1:
        raise ValueError(f"found {len(names)} files in it, expected one")
    return archive.open(names[0])


class _Text(io.RawIOBase):
    """The text of a CSV file as UTF-8, checked while it is read; UTF-16 needs its mark."""

    def __init__(self, content: Any) -> None:
        start = content.read(2**16)
        content.seek(0)
        if start.startswith(GZIP):
            raise ValueError("found gzip; give it a name that ends in .csv.gz")
        encoding = "utf-16" if start.startswith(UTF_16) else "utf-8"
        self.first_line = (start.decode(encoding, "replace").splitlines() or [""])[0]
        self.decoder = getincrementaldecoder(encoding)()
        self.content, self.bytes, self.characters, self.quotes = content, 0, 0, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        text, raw = "", b"?"
        while raw and not text:
            # What it held back and two bytes of UTF-16 may be three of UTF-8 each.
            raw, held = self.content.read(len(buffer) // 2 - 4), self.decoder.getstate()[0]
            try:
                text = self.decoder.decode(raw, final=not raw)
            except UnicodeDecodeError as error:
                error.start += self.bytes - len(held)
                raise
            self.bytes += len(raw)
        if (place := text.find("\0")) >= 0:
            place += self.characters
            raise ValueError(
                f"found a NUL at {place:,}, expected text in UTF-8, or UTF-16 with its mark"
            )
        self.characters += len(text)
        self.quotes += text.count('"')
        content = text.encode()
        buffer[: len(content)] = content
        return len(content)


def csv(file: Any, name: str, query: Query) -> Opened:
    """All fields as text; every row must have as many as the first one, which holds the names.

    `NA` and empty fields are missing. A semicolon, tab or bar separates where the first row has no
    comma.
    """
    import pyarrow as pa
    from pyarrow.csv import ConvertOptions, ParseOptions, ReadOptions, open_csv

    text = _Text(_unpacked(file, name))
    line = text.first_line
    reader = open_csv(
        io.BufferedReader(text, BLOCK),
        # In one thread, its errors name the row.
        read_options=ReadOptions(use_threads=False, block_size=BLOCK),
        parse_options=ParseOptions(
            delimiter="," if "," in line else max(",;\t|", key=line.count), newlines_in_values=True
        ),
        convert_options=ConvertOptions(
            default_column_type=pa.string(), null_values=["NA", ""], strings_can_be_null=True
        ),
    )
    names = tuple(reader.schema.names)
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ValueError(f"column {twice!r} is there twice in the first line")

    def rows() -> Iterator[pa.RecordBatch]:
        last = ""
        for batch in reader:
            yield batch
            last = (batch.column(-1)[-1].as_py() or "") if len(batch) else last
        if text.quotes % 2 and "\n" in last:
            raise ValueError(f"a quote is not closed before {last.splitlines()[0]!r}")

    return names, rows()


def parquet(file: Any, name: str, query: Query) -> Opened:
    """The columns asked for, of the groups of rows that may have the days asked for."""
    import pyarrow.parquet as pq

    content = pq.ParquetFile(file)
    names = tuple(name for name in content.schema_arrow.names if not NAMELESS.fullmatch(name))
    asked = [name for name in names if query.columns is None or name in query.columns]
    groups = [
        number for number in range(content.num_row_groups)
        if _may_have(content.metadata.row_group(number), query)
    ]  # fmt: skip
    return names, content.iter_batches(ROWS, groups, asked)


def _may_have(group: Any, query: Query) -> bool:
    """Whether a group of rows may have a day of the query, by the statistics of the file."""
    for number in range(group.num_columns):
        column = group.column(number)
        known = column.statistics
        if column.path_in_schema == query.day and known and known.has_min_max:
            # Of instants with a zone, the day is another one elsewhere; a missing one is a fault.
            if known.null_count or getattr(known.min, "tzinfo", None):
                return True
            first, last = (str(day)[:10] for day in (known.min, known.max))
            return first <= str(query.until or last) and last >= str(query.since or first)
    return True
