"""One PySpark dialect: features speak it to DuckDB, and the rest still has the real one."""

import subprocess
import sys

import pytest

from mlops.data import engine


def test_pyspark_is_duckdb_inside_the_context_alone_and_bound_functions_outlive_it():
    session = engine.start("duckdb")
    with engine.engine_as_pyspark("duckdb"):
        from pyspark.sql import functions
    frame = session.range(3).select((functions.col("id") * 2).alias("twice"))
    assert sorted(engine.collect(frame)["twice"].to_pylist()) == [0, 2, 4]
    with pytest.raises(ValueError, match="here"), engine.engine_as_pyspark("duckdb"):
        raise ValueError("here")
    from pyspark.sql import functions

    assert functions.col.__module__.startswith("pyspark")


def test_the_interpreter_ends_without_a_word_about_leaks():
    code = "from mlops.data import engine; engine.start('duckdb').range(3).collect()"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (0, "")
