"""A bundle is loaded whole or not at all, and the fast graph says what the bundle's own says."""

import json
import shutil

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, external_data_helper, helper

from mlops.base.errors import UserError
from mlops.contract import bundle
from mlops.serving import model
from mlops.serving.model import Batch
from tests.mlops.serving import bundles

CASES = [(family, task) for family in bundles.FAMILIES for task in bundles.TASKS]
ODD = ["", "a", "A", "a" * 10_000, "\N{SNOWMAN} never seen", "a\0b", "NaN"]


def rows(loaded, count, seed=0):
    """Numbers of every size, missing ones too, and words that training saw and did not see."""
    random = np.random.default_rng(seed)
    numbers = random.normal(size=(count, len(loaded.numeric))) * 10.0 ** random.integers(
        -40, 38, size=(count, len(loaded.numeric))
    )
    numbers = numbers.astype("float32")
    numbers[random.random(numbers.shape) < 0.2] = np.nan
    words = random.choice(np.array(ODD, dtype=object), (count, len(loaded.categorical)))
    return Batch(numbers, words)


def own(folder, loaded, batch):
    """The answer of the bundle's own graph, fed with its own inputs."""
    session = bundle.session((folder / bundle.MODEL).read_bytes())
    numbers = dict(zip(loaded.numeric, batch.numeric.T.copy(), strict=True))
    words = dict(zip(loaded.categorical, batch.categorical.T.copy(), strict=True))
    return session.run(None, numbers | words)


def same_bits(one, other):
    assert len(one) == len(other)
    for left, right in zip(one, other, strict=True):
        assert left.dtype == right.dtype == np.float32
        assert left.shape == right.shape
        assert left.tobytes() == right.tobytes()


@pytest.mark.parametrize(("family", "task"), CASES)
def test_every_family_and_task_is_scored_by_the_fast_graph_to_the_same_bits(made, family, task):
    """In company as alone: trees to the same bits; the sums of a linear model in another order."""
    folder = made(family, task)
    loaded = model.load(folder)
    assert loaded.narrow
    for count in (1, 2, 500):
        batch = rows(loaded, count, seed=count)
        whole = loaded.score(batch)
        same_bits(whole, own(folder, loaded, batch))
    for place in (0, 499):
        alone = loaded.score(Batch(batch.numeric[[place]], batch.categorical[[place]]))
        if family == "linear":
            for one, output in zip(alone, whole, strict=True):
                assert one == pytest.approx(output[[place]], rel=1e-5, abs=1e-6)
        else:
            same_bits(alone, [output[[place]] for output in whole])


@pytest.mark.parametrize("family", bundles.FAMILIES)
@pytest.mark.parametrize("columns", [bundles.NUMBERS, ["words"]])
def test_a_model_of_numbers_alone_or_words_alone_is_scored(tmp_path, family, columns):
    folder = bundles.make(tmp_path / "bundle", family, "regression", columns)
    loaded = model.load(folder)
    batch = rows(loaded, 20)
    same_bits(loaded.score(batch), own(folder, loaded, batch))


@pytest.fixture
def copy(made, tmp_path):
    return shutil.copytree(made("linear", "multiclass"), tmp_path / "copy")


def change(folder, **changes):
    """Change the card, and nothing else."""
    card = json.loads((folder / bundle.CARD).read_text())
    (folder / bundle.CARD).write_text(json.dumps(card | changes))


def swap_two_outputs(folder):
    change(folder, outputs=["probability_1", "probability_0", "probability_2"])


def forget_an_input(folder):
    change(folder, inputs=json.loads((folder / bundle.CARD).read_text())["inputs"][1:])


def put_words_in_place_of_the_model(folder):
    (folder / bundle.MODEL).write_text("not a graph")
    sign(folder)


def sign(folder):
    """Write the digests of the files as they are now."""
    card = json.loads((folder / bundle.CARD).read_text())
    card.pop("files")
    bundle.write_card(folder, card)


def put_a_tensor_in_another_file(folder):
    """Wherever it lies: here in a file that is there."""
    (folder / "tensor").write_bytes(bytes(8))
    graph = onnx.load(folder / bundle.MODEL)
    tensor = graph.graph.initializer.add(name="far", data_type=TensorProto.FLOAT, dims=[2])
    tensor.raw_data = bytes(8)
    external_data_helper.set_external_data(tensor, str(folder / "tensor"))
    tensor.ClearField("raw_data")
    (folder / bundle.MODEL).write_bytes(graph.SerializeToString())
    sign(folder)


TAMPERED = [
    (lambda folder: (folder / bundle.REFERENCE).unlink(), "reference.parquet: found nothing"),
    (lambda folder: (folder / bundle.CARD).write_text("{"), "not a bundle's card"),
    (lambda folder: change(folder, files={}), "found no digest of model.onnx"),
    (swap_two_outputs, "outputs: found probability_0, .*, expected"),
    (
        lambda folder: change(folder, outputs=["probability_0"]),
        "outputs: found probability_0, probability_1, ",
    ),
    (forget_an_input, "inputs: found city, .*, expected city, "),
    (
        lambda folder: change(folder, example={"words": "a"}),
        "example: found words, expected city, ",
    ),
    (put_words_in_place_of_the_model, "does not run here"),
    (put_a_tensor_in_another_file, "model.onnx: found tensors in other files"),
    (
        lambda folder: change(folder, name="a\r\nset-cookie: b"),
        "found the name 'a.*expected letters",
    ),
    (lambda folder: change(folder, name="a/b"), "found the name 'a/b', expected letters"),
    (lambda folder: change(folder, name="\ud800"), "found the name|not a bundle's card"),
]


@pytest.mark.parametrize(("tamper", "message"), TAMPERED)
def test_a_bundle_that_was_tampered_with_is_refused_in_one_line(copy, tamper, message):
    tamper(copy)
    with pytest.raises(UserError, match=message) as refused:
        model.load(copy)
    assert "\n" not in str(refused.value)


def test_a_model_runs_in_as_many_threads_as_it_is_told(copy):
    loaded = model.load(copy, threads=2)
    assert isinstance(loaded.session, onnxruntime.InferenceSession)
    assert loaded.session.get_session_options().intra_op_num_threads == 2


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
