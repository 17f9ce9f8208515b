"""The fast graph differs from the bundle's own only in how it is fed."""

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from mlops.contract import bundle
from mlops.serving import graph, model
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


def laid_out(names, merges, axis=1, unsqueeze=1):
    """A graph of columns, each made a matrix, merged in several orders and weighed."""
    place = helper.make_tensor("place", TensorProto.INT64, [1], [unsqueeze])
    nodes = [helper.make_node("Unsqueeze", [name, "place"], [f"{name}_column"]) for name in names]
    initializers = [place]
    for number, merge in enumerate(merges):
        columns = [f"{name}_column" for name in merge]
        nodes.append(helper.make_node("Concat", columns, [f"merged{number}"], axis=axis))
        weights = np.arange(1, len(merge) + 1, dtype=np.float32) ** 2
        weights = weights.reshape(-1, 1) if axis == 1 else weights.reshape(1, -1)
        initializers.append(onnx.numpy_helper.from_array(weights, f"weights{number}"))
        pair = [f"merged{number}", f"weights{number}"]
        nodes.append(helper.make_node("MatMul", pair[:: 1 if axis == 1 else -1], [f"out{number}"]))
    float_ = TensorProto.FLOAT
    body = helper.make_graph(
        nodes, "by somebody else",
        [helper.make_tensor_value_info(name, float_, ["rows"]) for name in names],
        [helper.make_tensor_value_info(f"out{n}", float_, None) for n in range(len(merges))],
        initializers,
    )  # fmt: skip
    opset = [helper.make_opsetid("", 18)]
    return helper.make_model(body, opset_imports=opset, ir_version=10).SerializeToString()


def scored_as_columns(content, names, numbers):
    feeds = dict(zip(names, numbers.T.copy(), strict=True))
    return bundle.session(content).run(None, feeds)


def scored_as_matrix(content, names, numbers):
    session = bundle.session(graph.narrowed(content, names, []))
    assert [node.name for node in session.get_inputs()] == [graph.NUMERIC]
    return session.run(None, {graph.NUMERIC: numbers})


@settings(max_examples=50, deadline=None)
@given(data=st.data(), count=st.integers(1, 6))
def test_columns_merged_in_any_order_and_number_are_told_apart(data, count):
    names = [f"c{number}" for number in range(count)]
    some = st.lists(st.sampled_from(names), min_size=1, max_size=count)
    merges = data.draw(st.lists(st.permutations(names) | some, min_size=1, max_size=3))
    numbers = np.random.default_rng(0).normal(size=(5, count)).astype("float32")
    content = laid_out(names, merges)
    same_bits(scored_as_matrix(content, names, numbers), scored_as_columns(content, names, numbers))


def test_the_matrix_itself_is_fed_where_the_columns_are_merged_in_order():
    names = ["a", "b", "c"]
    narrowed = onnx.load_from_string(graph.narrowed(laid_out(names, [names]), names, []))
    assert [node.op_type for node in narrowed.graph.node] == ["MatMul"]


def test_nothing_but_copying_is_left_out(made):
    content = (made("linear", "multiclass") / bundle.MODEL).read_bytes()
    loaded = model.load(made("linear", "multiclass"))
    before = [node.op_type for node in onnx.load_from_string(content).graph.node]
    narrowed = graph.narrowed(content, list(loaded.numeric), list(loaded.categorical))
    after = [node.op_type for node in onnx.load_from_string(narrowed).graph.node]
    copying = {"Unsqueeze", "Concat", "Gather"}
    assert [kind for kind in after if kind not in copying] == [
        kind for kind in before if kind not in copying
    ]
    assert len(after) < len(before)


def somebody_elses(folder, content):
    """A bundle whose graph another exporter laid out."""
    rows = bundles.frame()[["numbers", "z"]]
    said = bundles.card(rows, "theirs", "regression")
    return bundles.write(folder, content, said, rows)


def add_columns(output="prediction", swapped=False):
    """Reads the columns as they are, without making a matrix of them."""
    float_, names = TensorProto.FLOAT, ["numbers", "z"]
    nodes = [
        helper.make_node("Exp", ["numbers"], ["e"]),
        helper.make_node("Sub", ["z", "e"] if swapped else ["e", "z"], [output]),
    ]
    body = helper.make_graph(
        nodes, "theirs", [helper.make_tensor_value_info(n, float_, ["rows"]) for n in names],
        [helper.make_tensor_value_info(output, float_, ["rows"])],
    )  # fmt: skip
    opset = [helper.make_opsetid("", 18)]
    return helper.make_model(body, opset_imports=opset, ir_version=10).SerializeToString()


@pytest.mark.parametrize("swapped", [False, True])
def test_a_graph_that_somebody_else_laid_out_is_scored_by_its_columns(tmp_path, swapped):
    folder = somebody_elses(tmp_path / "theirs", add_columns(swapped=swapped))
    loaded = model.load(folder)
    assert not loaded.narrow
    numbers = np.array([[0, 1], [2, 5]], dtype="float32")
    batch = Batch(numbers, np.empty((2, 0), dtype=object))
    expected = np.exp(numbers[:, 0]) - numbers[:, 1]
    assert loaded.score(batch)[0] == pytest.approx(-expected if swapped else expected)


def test_rows_for_columns_are_told_from_columns_for_rows():
    """Merged along the other axis, the same nodes mean another thing."""
    names = ["a", "b"]
    content = laid_out(names, [names], axis=0, unsqueeze=0)
    numbers = np.array([[1, 10], [2, 20], [3, 30]], dtype="float32")
    expected = scored_as_columns(content, names, numbers)
    assert expected[0].tolist() == [[41, 82, 123]]
    with pytest.raises(Exception, match="MatMul"):
        scored_as_matrix(content, names, numbers)


def test_the_same_numbers_are_the_same_and_others_are_not():
    one = [np.array([1, np.nan], dtype="float32")]
    assert graph.same(one, [one[0].copy()])
    assert not graph.same(one, [np.array([np.nextafter(np.float32(1), 2), np.nan], "float32")])
    assert not graph.same(one, [np.array([1, 0], dtype="float32")])
    assert not graph.same([np.zeros(1, "float32")], [-np.zeros(1, "float32")])
    with pytest.raises(ValueError, match="longer"):
        graph.same(one, [*one, *one])
