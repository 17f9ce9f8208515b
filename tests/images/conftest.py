"""The engine of all tests here, and the service's image."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.images import engine as engines
from tests.images.engine import Engine


@pytest.fixture(scope="session")
def engine(shared: Any) -> Iterator[Engine]:
    """The engine, which the first test begins and the last one ends, whichever worker they have."""
    with shared.held("engine.json", engines.begin, engines.end) as record:
        yield engines.load(record)
