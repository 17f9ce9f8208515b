"""One PySpark dialect, two engines: DuckDB through SQLFrame (no JVM), or Spark itself."""

from __future__ import annotations

import atexit
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from mlops.base.errors import UserError

Engine = Literal["duckdb", "spark"]


def start(engine: Engine) -> Any:
    """A Spark session, or DuckDB behind the same interface; UserError for Spark without Java."""
    return _spark() if engine == "spark" else _duckdb()


@contextmanager
def engine_as_pyspark(engine: Engine) -> Iterator[None]:
    """Make `import pyspark.sql` resolve to the selected engine while the context is open.

    Import and run the project's features inside it, and nothing else: Hyperopt and MLflow need
    the real PySpark. Raises UserError in place of the project's own for what only Spark has.
    """
    if engine == "spark":
        yield
        return
    import sqlframe

    with sqlframe.activate_context("duckdb"):
        try:
            yield
        except UserError as error:
            cause = str(error.__cause__)
            lacking = re.search(r"(attribute|import name|module named) '([\w.]+)'", cause)
            if not lacking or not re.search("sqlframe|DuckDB|'pyspark", cause):
                raise
            place = str(error).partition(f": {type(error.__cause__).__name__}: ")[0]
            cure = "use another function, or set `engine: spark` in params.yaml"
            raise UserError(f"{place}: found {lacking[2]}, which DuckDB lacks; {cure}") from error


def read(session: Any, folder: Path) -> Any:
    """Read the Parquet files of one table's folder as a DataFrame of the session's engine."""
    # SQLFrame quotes no path: a relative one has no quote or bracket of the folders above it.
    is_sqlframe = type(session).__module__.startswith("sqlframe")
    place = os.path.relpath(folder) if is_sqlframe else folder.resolve()
    return session.read.parquet(f"{place}/*.parquet")


def _duckdb() -> Any:
    import duckdb
    from sqlframe.duckdb import DuckDBSession

    # Timestamps are UTC without a zone: DuckDB needs to download no time zone extension.
    connection = duckdb.connect(config={"autoinstall_known_extensions": "false"})
    session = DuckDBSession.builder.config("sqlframe.conn", connection).getOrCreate()
    # An open connection makes DuckDB print pages of "leaked" when the interpreter ends.
    atexit.register(session._udf_conn.close)
    return session


def _spark() -> Any:
    from pyspark.sql import SparkSession

    # Workers must run this interpreter, whatever `python3` is on the PATH.
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    builder = (
        SparkSession.builder.appName("mlops")
        .config("spark.sql.session.timeZone", "UTC")
        .config("spark.sql.execution.arrow.pyspark.enabled", "true")
    )
    if os.environ.get("SPARK_REMOTE"):
        return builder.getOrCreate()
    _require_java()
    import psutil

    quarter = f"{psutil.virtual_memory().total // 4 // 2**20}m"
    session = (
        builder.config("spark.driver.memory", os.environ.get("SPARK_DRIVER_MEMORY") or quarter)
        .config("spark.driver.bindAddress", "127.0.0.1")
        .config("spark.driver.host", "127.0.0.1")
        # No table is kept there, but Spark makes the folder, by default where it is started.
        .config("spark.sql.warehouse.dir", tempfile.gettempdir())
        .config("spark.ui.enabled", "false")
        .config("spark.ui.showConsoleProgress", "false")
        # Many: Spark merges small partitions, and few partitions would not fit in memory.
        .config("spark.sql.shuffle.partitions", str(32 * (os.cpu_count() or 1)))
        .getOrCreate()
    )
    session.sparkContext.setLogLevel("ERROR")
    return session


def _require_java() -> None:
    home = os.environ.get("JAVA_HOME")
    if not (home and (Path(home) / "bin" / "java").exists()) and not shutil.which("java"):
        raise UserError(
            "params.yaml: engine: found 'spark', but no Java on the PATH or in JAVA_HOME; "
            "install Java 17, set SPARK_REMOTE to a Spark Connect server, or set 'duckdb'"
        )
