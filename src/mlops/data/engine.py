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
from functools import cache
from glob import glob
from pathlib import Path
from typing import Any, Literal
from zipfile import ZipFile

import mlops
from mlops.base.errors import UserError, one_line

Engine = Literal["duckdb", "spark"]
# How long a Spark Connect server may take to answer at all.
CONNECT_SECONDS = 10


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
    """Read the Parquet files of one table's folder as a DataFrame of the session's engine.

    Raises UserError where the engine sees other files there than this machine.
    """
    if type(session).__module__.startswith("sqlframe"):
        # SQLFrame quotes no path: a relative one has no quote or bracket of the folders above it.
        return session.read.parquet(f"{os.path.relpath(folder)}/*.parquet")
    # Were they set for the cluster, a file that an executor does not see would be no rows.
    strict = {"ignoreMissingFiles": "false", "ignoreCorruptFiles": "false"}
    place = f"{folder.resolve()}/*.parquet"
    if is_local(session):
        return session.read.options(**strict).parquet(place)
    try:
        frame = session.read.options(**strict).parquet(place)
        found = f"{frame.count():,} rows on Spark"
    except Exception as error:
        found = cause(error)
    from pyarrow import dataset

    expected = f"{dataset.dataset(folder).count_rows():,} rows"
    if found != f"{expected} on Spark":
        raise UserError(
            f"{folder}: found {found}, expected {expected} as on this machine; share the folder "
            "under the same path with all of Spark, or see docs/scale.md"
        )
    return frame


def cause(error: Exception) -> str:
    """Why something failed on Spark, in one line: what Python raised there, if it was Python."""
    raised = re.search(r"(?m)^(\w+\.)*\w+(Error|Exception): .*", str(error))
    return f"on Spark: {one_line(raised[0] if raised else error)}"


def is_local(session: Any) -> bool:
    """Whether a Spark session runs on this machine alone: no cluster, no Spark Connect."""
    remote = ".connect." in type(session).__module__
    return not remote and session.sparkContext.master.startswith("local")


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
    remote = os.environ.get("SPARK_REMOTE", "")
    if remote.startswith("sc://"):
        _require_server(remote)
    else:
        _require_java()
    # These two decide results; of all else, only what is left open on one machine is set here.
    builder = (
        SparkSession.builder.appName("mlops")
        .config("spark.sql.session.timeZone", "UTC")
        .config("spark.sql.execution.arrow.pyspark.enabled", "true")
    )
    try:
        session = builder.config(map=_local_settings()).getOrCreate()
    except Exception as error:
        raise UserError(f"{remote or 'spark.master'}: no session {cause(error)}") from error
    if is_local(session):
        session.sparkContext.setLogLevel("ERROR")
    else:
        _send_code(session)
    return session


def _local_settings() -> dict[str, Any]:
    """What the user's own settings of Spark leave open, where it runs on this machine alone."""
    if os.environ.get("SPARK_REMOTE"):
        return {}
    import psutil
    from pyspark import SparkConf, SparkContext

    # Spark's own files come before this variable; it has to be there when Java starts.
    quarter = f"{psutil.virtual_memory().total // 4 // 2**20}m"
    os.environ.setdefault("SPARK_DRIVER_MEMORY", quarter)
    SparkContext._ensure_initialized()
    # As Spark has read it: spark-defaults.conf, $MASTER, $PYSPARK_SUBMIT_ARGS.
    own = SparkConf()
    # Spark turns it on for every shell, and takes Python for one.
    quiet = {"spark.ui.showConsoleProgress": "false"}
    if not own.get("spark.master", "local").startswith("local"):
        return quiet
    settings = {
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.driver.host": "127.0.0.1",
        # No table is kept there, but Spark makes the folder, by default where it is started.
        "spark.sql.warehouse.dir": tempfile.gettempdir(),
        "spark.ui.enabled": "false",
        # Many: Spark merges small partitions, and few partitions would not fit in memory.
        "spark.sql.shuffle.partitions": str(32 * (os.cpu_count() or 1)),
    }
    return quiet | {name: value for name, value in settings.items() if not own.contains(name)}


@cache
def _send_code(session: Any) -> None:
    """Give the executors the packages below `src/`, as they are here."""
    source = Path(mlops.__file__).parents[1]
    if source.name != "src":
        return
    # Executors fetch it when they start, which may be late.
    folder = tempfile.mkdtemp()
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    path = Path(folder) / "src.zip"
    with ZipFile(path, "w") as archive:
        for name in glob("**/*", root_dir=source, recursive=True):
            if (source / name).is_file() and "__pycache__" not in name:
                archive.write(source / name, name)
    session.addArtifacts(str(path), pyfile=True)


def _require_server(remote: str) -> None:
    """Raise UserError where no Spark Connect server answers at a URL."""
    try:
        import grpc
        from pyspark.sql.connect.client import DefaultChannelBuilder

        with DefaultChannelBuilder(remote).toChannel() as channel:
            grpc.channel_ready_future(channel).result(CONNECT_SECONDS)
    except Exception as error:
        # The library's own message for a timeout is empty.
        waited = f"no answer within {CONNECT_SECONDS} s" if "Timeout" in repr(error) else ""
        raise UserError(f"SPARK_REMOTE: {remote}: {waited or one_line(error)}") from error


def _require_java() -> None:
    home = os.environ.get("JAVA_HOME")
    if not (home and (Path(home) / "bin" / "java").exists()) and not shutil.which("java"):
        raise UserError(
            "params.yaml: engine: found 'spark', but no Java on the PATH or in JAVA_HOME; "
            "install Java 17, set SPARK_REMOTE to a Spark Connect server, or set 'duckdb'"
        )
