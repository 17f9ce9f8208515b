"""Where the trials of a round run: here, in processes of this machine, or on Spark's executors."""

from __future__ import annotations

import pickle
import signal
import tempfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import cache, partial
from multiprocessing import active_children, get_context
from pathlib import Path
from typing import Any
from uuid import uuid4

from mlops.base.errors import UserError
from mlops.data import engine
from mlops.training.space import Candidate
from mlops.training.trial import split

Outcome = dict[str, Any]
Objective = Callable[[Candidate], Outcome]
# Gives the number of each candidate and its outcome, in the order in which they end.
Round = Callable[[list[Candidate]], Iterator[tuple[int, Outcome]]]


@contextmanager
def started(objective: Objective, parallelism: int, spark: Any = None) -> Iterator[Round]:
    """What runs a round of candidates, `parallelism` at once; the first failure ends all of them.

    The objective and its data are sent once: to each process, or to each of Spark's executors.
    """
    if spark is None and parallelism == 1:
        yield lambda candidates: ((n, objective(each)) for n, each in enumerate(candidates))
        return
    with tempfile.TemporaryDirectory(prefix="mlops-search-") as folder:
        path = Path(folder) / f"{uuid4().hex}.pkl"
        path.write_bytes(pickle.dumps(objective))
        if spark is None:
            # Forked after OpenMP has begun, a process would wait for ever.
            pool: Executor = ProcessPoolExecutor(parallelism, get_context("spawn"), _begin)
            attempt, stop = partial(_attempt, path), _end_processes
        else:
            spark.addArtifacts(str(path), file=True)
            pool = ThreadPoolExecutor(parallelism)
            attempt, stop = partial(_attempt_on_spark, spark, path.name), spark.interruptAll
        try:
            yield partial(_round, pool, attempt)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            stop()
            raise
        finally:
            pool.shutdown()


def _round(
    pool: Executor, attempt: Objective, candidates: list[Candidate]
) -> Iterator[tuple[int, Outcome]]:
    futures = {pool.submit(attempt, each): number for number, each in enumerate(candidates)}
    try:
        for future in as_completed(futures):
            yield futures[future], future.result()
    except BrokenProcessPool:
        raise UserError(
            "params.yaml: tune.parallelism: a trial's process was killed, as happens where "
            "memory is short; expected fewer at once"
        ) from None


@cache
def _objective(path: Path) -> Any:
    """The objective of a search, loaded once in each process."""
    return pickle.loads(path.read_bytes())


def _attempt(path: Path, candidate: Candidate) -> Any:
    return _objective(path)(candidate)


def _begin() -> None:
    """Prepare a process of the pool: it ends with this one, which alone hears Ctrl-C."""
    from mlops.pipeline import stage

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    stage.begin()
    stage.end_with_parent()


def _end_processes() -> None:
    for process in active_children():
        process.terminate()
        process.join()


def _attempt_on_spark(spark: Any, name: str, candidate: Candidate) -> Any:
    """Run a trial as a Spark job of one task, which Spark repeats where an executor is lost."""

    def attempt(batches: Iterable[Any]) -> Iterator[Any]:
        """For `mapInArrow`: the outcome, or what a user must mend, which no repetition changes."""
        import pyarrow as pa
        from pyspark import SparkFiles

        list(batches)
        try:
            ended: Any = _attempt(Path(SparkFiles.get(name)), candidate)
        except UserError as error:
            ended = error
        yield pa.record_batch({"ended": [pickle.dumps(ended)]})

    try:
        (row,) = spark.range(0, 1, 1, 1).mapInArrow(attempt, "ended binary").collect()
    except Exception as error:
        family, own = split(candidate)
        raise UserError(f"models.py: {family} with {own}: {engine.cause(error)}") from error
    ended = pickle.loads(row.ended)
    if isinstance(ended, UserError):
        raise ended
    return ended
