"""Time Spark's featurize on folders of raw tables: `ROUNDS FOLDER...`; prints seconds as JSON."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

from mlops.contract import params, project
from mlops.data import engine


def main(rounds: int, folders: list[Path]) -> dict[str, list[float]]:
    """Seconds of every round for each folder, all in one session, which is warm by then."""
    session = engine.start("spark")
    _seconds(session, folders[0])
    turns: dict[str, list[float]] = {str(folder): [] for folder in folders}
    for _ in range(rounds):
        for folder in folders:
            turns[str(folder)].append(_seconds(session, folder))
    return turns


def _seconds(session: Any, folder: Path) -> float:
    """From reading the tables to the last feature of the last row."""
    start = time.perf_counter()
    raw = {table.name: engine.read(session, table) for table in sorted(folder.iterdir())}
    build = project.features(params.load_all().project).build
    build(raw).write.format("noop").mode("overwrite").save()
    return time.perf_counter() - start


if __name__ == "__main__":
    print(json.dumps(main(int(sys.argv[1]), [Path(folder) for folder in sys.argv[2:]])))
