"""A cell of CSV means the same in a request and in a table, whatever lies beside it."""

import json

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops.serving.batch import table
from mlops.serving.cells import MISSING
from tests.mlops.serving import bundles, forms

CELLS = [
    "1", "-1.5", ".5", "5.", "1e3", "1E-3", "0012", "NaN", "nan", "NAN", "", "NA",
    "inf", "-Inf", "infinity", "1e999", " 1", "1 ", "+1", "1_0", "٣", "0x10", "1,5", "null",
    "None", "-", ".", "e5", "1e", "--1", "1\n", "true",
]  # fmt: skip
COLUMNS = (*bundles.NUMBERS, *bundles.WORDS)
ROW = dict(zip(COLUMNS, ["1", "2", "3", "4", "a", "b"], strict=True))


def online(client, cell, column):
    """The model's inputs that a request's cell gives, or None where it is refused."""
    invocations = client.app.service.endpoint.invocations
    seen = []
    decode = invocations.decode

    def keep(*given):
        seen.append(decode(*given).arrays)
        return decode(*given)

    invocations.decode = keep
    row = ROW | {column: f'"{cell}"'}
    body = ",".join(row) + "\n" + ",".join(row.values())
    try:
        reply = client.post("/invocations", body.encode(), {"Content-Type": forms.CSV})
    finally:
        invocations.decode = decode
    return seen[0] if reply.status == 200 else None


def batch(client, cells, column):
    """The model's inputs that a table's cells give, each None where it is refused."""
    columns = {name: [cell] * len(cells) for name, cell in ROW.items()} | {column: cells}
    # As the source of files reads them.
    given = {name: [None if c in MISSING else c for c in own] for name, own in columns.items()}
    types = pa.schema([(name, pa.string()) for name in given])
    rows, refused = table.read(pa.table(given, types), client.app.service.endpoint.model)
    return [
        None if place in refused else (rows.numeric[place], rows.categorical[place])
        for place in range(len(cells))
    ]


def same(one, other):
    if one is None or other is None:
        return one is other
    return np.array_equal(one[0], other[0], equal_nan=True) and list(one[1]) == list(other[1])


@pytest.mark.parametrize("column", ["numbers", "words"])
def test_a_request_and_a_table_read_a_cell_alike(client, column):
    for cell, found in zip(CELLS, batch(client, CELLS, column), strict=True):
        asked = online(client, cell, column)
        expected = None if asked is None else (asked.numeric[0], asked.categorical[0])
        assert same(found, expected), json.dumps(cell)


@pytest.mark.parametrize("cell", ["", "NA", "NaN", "nan"])
def test_these_are_missing_numbers(client, cell):
    assert np.isnan(online(client, cell, "numbers").numeric[0][0])


@settings(max_examples=30)
@given(cells=st.lists(st.sampled_from(CELLS) | st.text(max_size=5), min_size=1, max_size=8))
def test_a_rows_fate_does_not_depend_on_its_neighbours(client, cells):
    together = batch(client, cells, "numbers")
    for cell, found in zip(cells, together, strict=True):
        assert same(found, batch(client, [cell], "numbers")[0])


def test_a_boolean_column_of_a_table_is_read_as_0_and_1(client):
    """As `featurize` reads it; a bundle has no boolean categories."""
    model = client.app.service.endpoint.model
    columns = {name: pa.array([1, 0]) for name in bundles.NUMBERS}
    columns |= {name: pa.array(["a", "b"]) for name in bundles.WORDS}
    numbers = pa.table(columns)
    booleans = pa.table(columns | {"numbers": pa.array([True, False])})
    table.require(booleans.schema, model, "rows")
    assert same(*((rows.numeric, rows.categorical.ravel())
                  for rows in (table.read(t, model)[0] for t in (numbers, booleans))))  # fmt: skip
