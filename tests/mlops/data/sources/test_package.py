"""An installed package's CSV files are read without importing it."""

import sys

import pytest

from mlops.base.errors import UserError
from mlops.data.sources import Query, package


@pytest.fixture(autouse=True)
def installed(tmp_path, monkeypatch):
    """A package `harbours` with two tables, installed."""
    for name, text in {
        "harbours/__init__.py": "raise AssertionError('imported')",
        "harbours/data/ships.csv": "ship,tons\nAda,3\nIda,NA\n",
        "harbours/data/ports.csv": "port\nKiel\n",
        "harbours-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: harbours\nVersion: 1.0\n",
        "harbours-1.0.dist-info/RECORD": "harbours/data/ships.csv,,\nharbours/data/ports.csv,,\n",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))


def test_tables_are_read_plain_and_the_package_is_not_imported():
    columns, batches = package.read("harbours", Query("ships"))
    assert columns == ("ship", "tons")
    assert next(batches).to_pydict() == {"ship": ["Ada", "Ida"], "tons": ["3", None]}
    assert "harbours" not in sys.modules


@pytest.mark.parametrize(
    ("location", "table", "line"),
    [
        ("harbour", "ships", "params.yaml: data.location: found 'harbour', expected an installed "
         "package; did you mean 'harbours'?"),
        ("harbours", "trains", "package harbours: no table 'trains'; it has ports, ships"),
    ],
)  # fmt: skip
def test_what_is_not_there_is_named_with_the_nearest(location, table, line):
    with pytest.raises(UserError) as error:
        package.read(location, Query(table))
    assert str(error.value) == line
