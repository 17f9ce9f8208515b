"""Days of the year have the features that training has for them, bit by bit.

All of them, and all flights, are compared by `python -m mlops.data.as_of 0`.
"""

from contextlib import chdir
from pathlib import Path

import pytest

from mlops.data import as_of
from tests.conftest import REPOSITORY, make_repository

pytestmark = [pytest.mark.nightly, pytest.mark.slow]


@pytest.fixture(scope="module")
def year(raw, tmp_path_factory):
    """The whole year at one airport, every tenth flight number: each has all of its past."""
    flights, weather = (raw[name].query("origin == 'EWR'") for name in ("flights", "weather"))
    tables = {**raw, "flights": flights[flights["flight"] % 10 == 0], "weather": weather}
    root = tmp_path_factory.mktemp("year") / "repository"
    workspace = make_repository("flights", root, REPOSITORY / "src/flights", tables)
    workspace.change({"data.until": "2013-12-31", "split.holdout_days": 30})
    workspace.run("ingest", "featurize")
    return workspace


def test_every_tenth_day_is_as_it_was_known(year):
    with chdir(year.root):
        assert as_of.run(year.params(), Path(), 37) == 37
