"""A usual request's tensors are read in one pass as they are read in several."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops.serving import model
from mlops.serving.endpoint import Endpoint
from mlops.serving.errors import Refusal
from mlops.serving.model import Batch, batch
from mlops.serving.tensors import LISTED, ORDERS
from tests.mlops.serving import bundles, forms

LIMIT = 10
VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 3), st.floats(width=32), st.just(1e39),
    st.just(10**400), st.sampled_from(["", "a", "☃", "1"]), st.lists(st.integers(), max_size=1),
)  # fmt: skip
CHANGES = st.dictionaries(
    st.sampled_from(["name", "shape", "datatype", "data", "parameters", "more"]),
    st.one_of(
        st.sampled_from([*bundles.COLUMNS, "BYTES", "BOOL", "FP64", "INT8", "FP65"]),
        st.lists(VALUES, max_size=3), st.lists(st.integers(-1, 12), max_size=2),
        st.none(), st.dictionaries(st.just("binary_data_size"), st.integers(0, 4)),
    ),
    max_size=2,
)  # fmt: skip


@pytest.fixture(scope="module")
def inference(made):
    return Endpoint(model.load(made("lightgbm", "binary")), LIMIT).inference


def same(one, other):
    """Whether two batches are the same to the bit."""
    return one.numbers.tobytes() == other.numbers.tobytes() and (one.words == other.words).all()


def made_batch(rows):
    return rows if isinstance(rows, Batch) else batch(rows.numbers, rows.words)


def slowly(inference, body):
    """The id and the batch, as whatever is unusual is read."""
    request, binary = inference._parse(body, None)
    return request.id, inference._tensors(request, binary)


@pytest.mark.parametrize("rows", [1, 2, LIMIT])
@pytest.mark.parametrize("datatype", LISTED)
def test_usual_tensors_are_read_in_any_order_and_type(inference, rows, datatype):
    frame = bundles.frame(rows, seed=rows)
    frame = frame[np.random.default_rng(rows).permutation(frame.columns)]
    tensors = forms.tensors(frame)
    for tensor in tensors:
        if tensor["datatype"] != "BYTES":
            tensor["datatype"] = datatype
    body = json.dumps({"id": "7", "inputs": tensors}).encode()
    identity, found = inference.usual.decode(body)
    expected = slowly(inference, body)
    assert identity == expected[0] == "7"
    assert same(made_batch(found), expected[1])


@given(
    rows=st.integers(0, 3),
    order=st.permutations(range(len(bundles.COLUMNS) + 1)),
    changes=st.lists(st.tuples(st.integers(0, len(bundles.COLUMNS) - 1), CHANGES), max_size=2),
    kept=st.integers(len(bundles.COLUMNS) - 1, len(bundles.COLUMNS) + 1),
    more=st.dictionaries(st.sampled_from(["id", "outputs", "parameters"]), VALUES, max_size=1),
)
@settings(max_examples=400, deadline=None)
def test_one_pass_never_says_anything_else_than_several(
    inference, rows, order, changes, kept, more
):
    """It may say nothing, of what is unusual or wrong; then the others are asked."""
    tensors = forms.tensors(bundles.frame(max(rows, 1)).head(rows))
    for place, change in changes:
        tensors[place].update(change)
    # One of them may be there twice.
    tensors = [[*tensors, tensors[0]][place] for place in order if place < kept]
    body = json.dumps({"inputs": tensors, **more}).encode()
    found = inference.usual.decode(body)
    try:
        identity, expected = slowly(inference, body)
    except Refusal:
        assert found is None
        return
    if found is not None:
        assert found[0] == identity
        assert same(made_batch(found[1]), expected)


def test_orders_are_kept_in_bounds(inference):
    random = np.random.default_rng(0)
    for _ in range(3 * ORDERS):
        frame = bundles.frame(1)[random.permutation(bundles.COLUMNS)]
        assert inference.usual.decode(json.dumps({"inputs": forms.tensors(frame)}).encode())
    assert len(inference.usual._orders) <= ORDERS
