"""A Spark cluster of one master and two workers, and a Spark Connect server, as real processes.

They are those of pip's PySpark, on loopback, with this interpreter on the executors.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pyspark
import pytest

from mlops.base.processes import HOST, free_port
from tests.programs import missing

SPARK = Path(pyspark.__file__).parent
MASTER = "org.apache.spark.deploy.master.Master"
WORKER = "org.apache.spark.deploy.worker.Worker"
CONNECT = "org.apache.spark.sql.connect.service.SparkConnectServer"
# One core each: two tasks at once need both workers.
SIZE = ("--cores", "1", "--memory", "2g")
SECONDS = 90


@dataclass
class Cluster:
    """A master's URL, the folder of `spark-defaults.conf` that names it, and the workers."""

    url: str
    folder: Path
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def environment(self) -> dict[str, str]:
        """What points a program at the cluster."""
        return {"SPARK_CONF_DIR": str(self.folder)}

    def executors(self) -> list[psutil.Process]:
        """The running executors, one a worker and application."""
        children = [c for w in self.workers for c in psutil.Process(w.pid).children()]
        running = [c for c in children if c.status() != psutil.STATUS_ZOMBIE]
        return [c for c in running if "CoarseGrainedExecutorBackend" in " ".join(c.cmdline())]


@contextmanager
def cluster(folder: Path, hidden: Path | None = None) -> Iterator[Cluster]:
    """A master and two workers, for which the folder `hidden` is empty."""
    folder.mkdir(parents=True)
    port = free_port()
    made = Cluster(f"spark://{HOST}:{port}", folder)
    (folder / "spark-defaults.conf").write_text(
        f"spark.master {made.url}\nspark.driver.host {HOST}\nspark.ui.enabled false\n"
        "spark.executor.memory 1g\nspark.sql.shuffle.partitions 4\n"
    )
    web = ("--host", HOST, "--webui-port", str(free_port()))
    with ExitStack() as stack:
        words = ("spark-class", MASTER, "--port", str(port), *web)
        stack.enter_context(_running(words, folder / "master.log", "Starting Spark master"))
        for number in (1, 2):
            web = ("--host", HOST, "--webui-port", str(free_port()))
            place = ("--work-dir", str(folder / f"work-{number}"))
            words = ("spark-class", WORKER, *SIZE, *place, *web, made.url)
            log = folder / f"worker-{number}.log"
            running = _running(words, log, "registered with", hidden)
            made.workers.append(stack.enter_context(running))
        yield made


@contextmanager
def connect(folder: Path, hidden: Path | None = None, master: str = "local[2]") -> Iterator[str]:
    """A Spark Connect server, for which the folder `hidden` is empty; its URL."""
    folder.mkdir(parents=True)
    port = free_port()
    conf = {
        "spark.connect.grpc.binding.address": HOST, "spark.connect.grpc.binding.port": str(port),
        "spark.driver.host": HOST, "spark.ui.enabled": "false",
        "spark.sql.shuffle.partitions": "4", "spark.sql.warehouse.dir": str(folder),
    }  # fmt: skip
    options = [word for name, value in conf.items() for word in ("--conf", f"{name}={value}")]
    # What `start-connect-server.sh --wait` runs, without its shell.
    words = ("spark-submit", "--class", CONNECT, "--master", master, *options, "spark-internal")
    log = folder / "connect.log"
    with _running(words, log, "Spark Connect server started at", hidden):
        yield f"sc://{HOST}:{port}"


@contextmanager
def pointed_at(place: str, folder: Path, hidden: Path | None = None) -> Iterator[dict[str, str]]:
    """The environment that points Spark at a cluster or Connect server, which runs meanwhile."""
    if place == "cluster":
        with cluster(folder, hidden) as made:
            yield made.environment
    elif place == "connect":
        with connect(folder, hidden) as url:
            yield {"SPARK_REMOTE": url}
    else:
        yield {}


@contextmanager
def _running(
    words: tuple[str, ...], log: Path, ready: str, hidden: Path | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """A program of Spark's `bin`, once its log says that it is ready; ended with its children."""
    if not shutil.which("java") and not os.environ.get("JAVA_HOME"):
        missing("java: not found; apt-get install openjdk-17-jre-headless")
    variables = {"SPARK_HOME": str(SPARK), "PYSPARK_PYTHON": sys.executable, "SPARK_LOCAL_IP": HOST}
    command = [str(SPARK / "bin" / words[0]), *words[1:]]
    if hidden:
        if os.geteuid():
            pytest.skip("only root may hide a folder")
        mount = f"mount -t tmpfs none {shlex.quote(str(hidden))} && exec {shlex.join(command)}"
        command = ["unshare", "--mount", "sh", "-c", mount]
    with log.open("wb") as file:
        process = subprocess.Popen(
            command, cwd=log.parent, stdout=file, stderr=file, env={**os.environ, **variables}
        )
    try:
        deadline = time.monotonic() + SECONDS
        while ready not in log.read_text(errors="replace"):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.2)
        yield process
    finally:
        parent = psutil.Process(process.pid)
        for each in [*parent.children(recursive=True), parent]:
            with suppress(psutil.NoSuchProcess):
                each.kill()
        process.wait()
