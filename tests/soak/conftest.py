"""An endpoint on this machine, which ends with its test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.mlops.deploy.place import Place
from tests.mlops.deploy.processes import stop


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path)
    yield made
    for root in tmp_path.iterdir():
        stop(root)
