"""A data source: raw tables as JSON Lines."""

from collections.abc import Iterable
from pathlib import Path

import pandas as pd


def read(location: str, names: Iterable[str]) -> dict[str, pd.DataFrame]:
    return {name: pd.read_json(Path(location) / f"{name}.jsonl", lines=True) for name in names}
