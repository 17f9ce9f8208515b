"""The graph with two inputs differs from the bundle's own only in its inputs."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from mlops.serving import model
from mlops.serving.model import Batch
from tests.mlops.serving import bundles
from tests.mlops.serving.test_model import own, same_bits

NUMBER = st.floats(width=32, allow_infinity=False) | st.just(float("nan"))
WORD = st.sampled_from(["", "a", "b", "c", "unseen"]) | st.text(max_size=5)
ROW = st.tuples(
    st.tuples(*[NUMBER] * len(bundles.NUMBERS)), st.tuples(*[WORD] * len(bundles.WORDS))
)


@pytest.mark.parametrize("family", bundles.FAMILIES)
@settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck))
@given(rows=st.lists(ROW, min_size=1, max_size=8), task=st.sampled_from(bundles.TASKS))
def test_any_rows_are_scored_to_the_same_bits(made, family, task, rows):
    folder = made(family, task)
    loaded = LOADED.setdefault(folder, model.load(folder) if folder not in LOADED else None)
    numbers = np.array([row[0] for row in rows], dtype=np.float32)
    batch = Batch(numbers, np.array([row[1] for row in rows], dtype=object))
    same_bits(loaded.score(batch), own(folder, loaded, batch))


LOADED = {}


@pytest.mark.parametrize("swapped", [False, True])
def test_a_graph_that_another_exporter_laid_out_is_scored_by_its_columns(tmp_path, swapped):
    """It reads its columns one by one, without making a matrix of them."""
    kind, names = TensorProto.FLOAT, ["numbers", "z"]
    nodes = [
        helper.make_node("Exp", ["numbers"], ["e"]),
        helper.make_node("Sub", ["z", "e"] if swapped else ["e", "z"], ["prediction"]),
    ]
    body = helper.make_graph(
        nodes, "theirs", [helper.make_tensor_value_info(name, kind, ["rows"]) for name in names],
        [helper.make_tensor_value_info("prediction", kind, ["rows"])],
    )  # fmt: skip
    opset = [helper.make_opsetid("", 18)]
    content = helper.make_model(body, opset_imports=opset, ir_version=10).SerializeToString()
    rows = bundles.frame()[names]
    card = bundles.card(rows, "theirs", "regression")
    loaded = model.load(bundles.write(tmp_path / "theirs", content, card, rows))
    assert not loaded.narrow
    numeric = np.array([[0, 1], [2, 5]], dtype="float32")
    expected = np.exp(numeric[:, 0]) - numeric[:, 1]
    scores = loaded.score(Batch(numeric, np.empty((2, 0), dtype=object)))[0]
    assert scores == pytest.approx(-expected if swapped else expected)
