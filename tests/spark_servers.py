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
from functools import cache
from pathlib import Path

import psutil
import pyspark

from mlops.base.processes import HOST, free_port
from tests.programs import missing

SPARK = Path(pyspark.__file__).parent
# The settings of every session of the tests.
QUICK = (Path(__file__).parent / "spark/spark-defaults.conf").read_text()
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
def cluster(folder: Path, hidden: Path | None = None, settings: str = QUICK) -> Iterator[Cluster]:
    """A master and two workers, for which the folder `hidden` is empty."""
    port = free_port()
    made = Cluster(f"spark://{HOST}:{port}", folder)
    _write(folder, f"{settings}\nspark.master {made.url}\nspark.executor.memory 1g\n")
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
def connect(
    folder: Path, hidden: Path | None = None, master: str = "local[2]", settings: str = QUICK
) -> Iterator[str]:
    """A Spark Connect server, for which the folder `hidden` is empty; its URL."""
    port = free_port()
    _write(
        folder,
        f"{settings}\nspark.master {master}\nspark.sql.warehouse.dir {folder}\n"
        f"spark.connect.grpc.binding.address {HOST}\nspark.connect.grpc.binding.port {port}\n",
    )
    # What `start-connect-server.sh --wait` runs, without its shell.
    words = ("spark-submit", "--class", CONNECT, "spark-internal")
    with _running(words, folder / "connect.log", "Spark Connect server started at", hidden):
        yield f"sc://{HOST}:{port}"


def _write(folder: Path, settings: str) -> None:
    """Make a folder of Spark's settings."""
    folder.mkdir(parents=True)
    common = f"spark.driver.host {HOST}\nspark.ui.enabled false\n"
    (folder / "spark-defaults.conf").write_text(common + settings)


@cache
def can_hide() -> bool:
    """Whether this machine lets a process have a folder of its own in another one's place."""
    command = ["unshare", "--mount", "sh", "-c", "mount -t tmpfs none /mnt"]
    return not subprocess.run(command, capture_output=True, check=False).returncode


@contextmanager
def _running(
    words: tuple[str, ...], log: Path, ready: str, hidden: Path | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """A program of Spark's `bin`, once its log says that it is ready; ended with its children."""
    if not shutil.which("java") and not os.environ.get("JAVA_HOME"):
        missing("java: not found; apt-get install openjdk-17-jre-headless")
    variables = {
        "SPARK_HOME": str(SPARK), "PYSPARK_PYTHON": sys.executable, "SPARK_LOCAL_IP": HOST,
        "SPARK_CONF_DIR": str(log.parent), "SPARK_DAEMON_JAVA_OPTS": "-XX:TieredStopAtLevel=1",
    }  # fmt: skip
    command = [str(SPARK / "bin" / words[0]), *words[1:]]
    if hidden and can_hide():
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
