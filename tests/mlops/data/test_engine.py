"""One PySpark dialect: features speak it to DuckDB, and the rest still has the real one."""

import os
import socket
import subprocess
import sys

import pandas as pd
import pyarrow as pa
import pytest

from mlops.base.errors import UserError
from mlops.contract import project
from mlops.contract.project import Features
from mlops.data import engine, feature_types, featurize, streaming


def test_pyspark_is_duckdb_inside_the_context_alone_and_bound_functions_outlive_it():
    session = engine.start("duckdb")
    with engine.engine_as_pyspark("duckdb"):
        from pyspark.sql import functions
    frame = session.range(3).select((functions.col("id") * 2).alias("twice"))
    assert sorted(frame.toArrow()["twice"].to_pylist()) == [0, 2, 4]
    with pytest.raises(ValueError, match="here"), engine.engine_as_pyspark("duckdb"):
        raise ValueError("here")
    from pyspark.sql import functions

    assert functions.col.__module__.startswith("pyspark")


@pytest.mark.parametrize(
    ("made", "found"),
    [(None, "builtins.NoneType"), (pd.DataFrame(), "pandas.core.frame.DataFrame")],
)
def test_what_is_no_dataframe_of_the_engine_is_refused(made, found):
    with pytest.raises(UserError, match=f"^features: found {found}, expected a DataFrame of the"):
        streaming.require_frame(made)


def test_the_interpreter_ends_without_a_word_about_leaks():
    code = "from mlops.data import engine; engine.start('duckdb').range(3).collect()"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (0, "")


def frame_of_types(session, functions):
    """What features compute from whole numbers: a sum, a product, a comparison and a quotient."""
    from pyspark.sql import Window

    number, f = session.range(6), functions
    before = Window.orderBy("id").rowsBetween(-2, -1)
    return number.select(
        f.col("id").alias("key"),
        (f.col("id") % 2).alias("y"),
        f.sum("id").over(before).alias("total"),
        (f.col("id") * f.lit(0.1)).alias("tenth"),
        (f.col("id") > 2).alias("late"),
        (f.col("id") % 3).alias("season"),
    )


@pytest.mark.parametrize(
    "kind", ["duckdb", pytest.param("spark", marks=[pytest.mark.nightly, pytest.mark.spark])]
)
def test_both_engines_give_the_declared_types_and_the_same_values(kind):
    declared = {"total": "m", "tenth": "m", "late": "flag", "season": "category"}
    spec = Features(dict, "key", None, "y", declared, (), "total")
    session = engine.start(kind)
    with engine.engine_as_pyspark(kind):
        from pyspark.sql import functions

        frame, order = frame_of_types(session, functions), [functions.col("key")]
        made, rows = streaming.batches(session, frame, order)
        typing = feature_types.Typing(made, spec)
        table = pa.concat_tables(map(typing.batch, streaming.chunks(rows))).to_pandas()
        large = frame.withColumn("total", functions.col("key") + 2**24)
        # As if it had come so.
        typing.largest["total"] = 2.0**24 + 5
        assert featurize._rounded(large, typing) == {"total": (3, 6)}
    assert table.dtypes.astype(str).to_dict() == {
        "key": "object", "y": "int64", "season": "object",
        **dict.fromkeys(("total", "tenth", "late"), "float32"),
    }  # fmt: skip
    assert table["total"].tolist()[1:] == [0, 1, 3, 5, 7]
    assert table["tenth"].tolist() == pytest.approx([0, 0.1, 0.2, 0.3, 0.4, 0.5])
    assert table["late"].tolist() == [0, 0, 0, 1, 1, 1]
    assert table["season"].tolist() == ["0", "1", "2", "0", "1", "2"]


@pytest.mark.parametrize(
    ("remote", "reason"),
    [
        ("sc://127.0.0.1:9", "no answer within 1 s"),
        ("sc://127.0.0.1:PORT", "no answer within 1 s"),
        ("sc://nobody.invalid:15002", "no answer within 1 s"),
        ("sc://127.0.0.1:9/x", "[INVALID_CONNECT_URL] Invalid URL for Spark Connect: "),
    ],
)
def test_a_connect_server_that_does_not_answer_is_one_line(monkeypatch, remote, reason):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        remote = remote.replace("PORT", str(silent.getsockname()[1]))
        monkeypatch.setenv("SPARK_REMOTE", remote)
        monkeypatch.setattr(engine, "CONNECT_SECONDS", 1)
        with pytest.raises(UserError) as error:
            engine.start("spark")
    assert str(error.value).startswith(f"SPARK_REMOTE: {remote}: {reason}")
    assert "\n" not in str(error.value)


def test_connect_without_its_packages_is_one_line(monkeypatch):
    monkeypatch.setenv("SPARK_REMOTE", "sc://127.0.0.1:9")
    monkeypatch.setitem(sys.modules, "grpc", None)
    with pytest.raises(UserError, match="^SPARK_REMOTE: sc://127.0.0.1:9: .*grpc"):
        engine.start("spark")


@pytest.mark.spark
@pytest.mark.nightly
def test_a_user_s_own_settings_of_local_spark_stand_and_no_folder_is_left(tmp_path):
    own = "spark.sql.shuffle.partitions 7\nspark.driver.memory 1g\nspark.master local[3]\n"
    (tmp_path / "spark-defaults.conf").write_text(own)
    here = tmp_path / "a clone [é]"
    here.mkdir()
    code = (
        "from mlops.data import engine; session = engine.start('spark')\n"
        "conf = session.sparkContext.getConf()\n"
        "print(*(conf.get(f'spark.{name}') for name in ('sql.shuffle.partitions',\n"
        "'driver.memory', 'master', 'driver.bindAddress', 'sql.session.timeZone')),\n"
        "session.catalog.listTables(), session.range(3).count())"
    )
    environment = {**os.environ, "SPARK_CONF_DIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], cwd=here, env=environment, text=True,
                          capture_output=True, check=True)  # fmt: skip
    assert done.stdout == "7 1g local[3] 127.0.0.1 UTC [] 3\n"
    assert list(tmp_path.rglob("*")) == [here, tmp_path / "spark-defaults.conf"]


@pytest.mark.spark
@pytest.mark.nightly
def test_for_a_cluster_nothing_is_set_but_the_progress_on_the_screen(tmp_path):
    (tmp_path / "spark-defaults.conf").write_text("spark.master spark://127.0.0.1:7077\n")
    code = "from mlops.data import engine; print(engine._local_settings())"
    environment = {**os.environ, "SPARK_CONF_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout == "{'spark.ui.showConsoleProgress': 'false'}\n"


@pytest.mark.parametrize(
    ("code", "name"),
    [
        ("from pyspark.sql import functions as F\nF.udf(str)", "udf"),
        ("\nfrom pyspark.sql.functions import pandas_udf", "pandas_udf"),
        ("\nimport pyspark.ml", "pyspark.ml"),
    ],
)
def test_what_only_spark_has_is_named_with_its_line_and_the_cure(tmp_path, code, name):
    file = str(tmp_path / "features.py")
    with (
        pytest.raises(UserError) as error,
        engine.engine_as_pyspark("duckdb"),
        project.own_code("churn", "features"),
    ):
        exec(compile(code, file, "exec"))
    assert str(error.value) == (
        f"{file}:2: found {name}, which DuckDB lacks; use another function, or set "
        "`engine: spark` in params.yaml"
    )
