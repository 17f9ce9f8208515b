"""The ONNX graph says what the native model says, for every family, task and odd row."""

import numpy as np
import pandas as pd
import pytest
from onnx import load_from_string
from sklearn.ensemble import RandomForestClassifier

from mlops.base.errors import UserError
from mlops.contract import bundle
from mlops.training import families, onnx
from tests.mlops.serving import bundles
from tests.mlops.serving.bundles import fitted, frame, outcome

CASES = [(name, task) for name in bundles.FAMILIES for task in bundles.TASKS]
TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def made():
    """Fitted models and their graphs, each made once."""
    known = {}

    def make(name, task):
        if (name, task) not in known:
            encoder, estimator = fitted(name, task, frame())
            graph = onnx.export(encoder, estimator, frame(), task, bundles.CLASSES[task])
            known[name, task] = encoder, estimator, graph
        return known[name, task]

    return make


LARGE = np.array([np.nan, 1e9, -1e9, 0, 1e-38], dtype="float32")
ODD_WORDS = pd.Series(["", "never seen", "a" * 10_000, "\N{SNOWMAN}", "A"])
ODD = pd.DataFrame(dict.fromkeys(bundles.NUMBERS, LARGE) | dict.fromkeys(bundles.WORDS, ODD_WORDS))[
    bundles.COLUMNS
]


@pytest.mark.parametrize(("name", "task"), CASES)
def test_every_family_and_task_exports_within_tolerance_on_odd_rows_too(made, name, task):
    encoder, estimator, graph = made(name, task)
    onnx.require_parity(graph, encoder, estimator, frame(seed=9), task, TOLERANCE)
    native = families.predict(estimator, task, encoder.transform(ODD).astype("float32"))
    scored = bundle.predict(bundle.session(graph), ODD, task)
    assert scored == pytest.approx(native, rel=1e-4, abs=1e-4)


@pytest.mark.parametrize(("name", "task"), CASES)
def test_the_graph_has_a_column_per_feature_and_number_and_opsets_in_order(made, name, task):
    """The converter lists opsets in the order of a set, another one in every other process."""
    graph = made(name, task)[2]
    session = bundle.session(graph)
    assert {node.name: node.type for node in session.get_inputs()} == {
        name: "tensor(string)" if name in bundles.WORDS else "tensor(float)"
        for name in bundles.COLUMNS
    }
    assert [node.name for node in session.get_outputs()] == onnx.output_names(
        task, bundles.CLASSES[task]
    )
    assert all(node.shape == ["rows"] for node in (*session.get_inputs(), *session.get_outputs()))
    domains = [opset.domain for opset in load_from_string(graph).opset_import]
    assert domains == sorted(domains)
    assert len(domains) > 1


@pytest.mark.parametrize("name", bundles.FAMILIES)
def test_the_same_model_is_the_same_bytes(made, name):
    encoder, estimator = fitted(name, "binary", frame())
    assert onnx.export(encoder, estimator, frame(), "binary", 2) == made(name, "binary")[2]


@pytest.mark.parametrize("task", bundles.TASKS)
def test_a_graph_that_is_not_this_models_is_refused_with_model_and_parameter(made, task):
    encoder, estimator, graph = made("linear", task)
    other = fitted("linear", task, frame(seed=1))[1]
    with pytest.raises(UserError) as error:
        onnx.require_parity(graph, encoder, other, frame(), task, TOLERANCE)
    line = str(error.value)
    assert line.startswith(f"ONNX export of {type(estimator).__name__}: found a difference of ")
    assert line.endswith(", expected at most 1e-05 (params.yaml: train.parity)")


def test_a_converter_that_errs_only_on_missing_values_is_caught_by_the_edge_rows():
    """Random forests do: the converter does not know where they send missing values."""
    whole = frame(missing=0)
    encoder = families.encoder("ordinal", whole)
    matrix = encoder.fit_transform(frame()).astype("float32")
    forest = RandomForestClassifier(20, random_state=1).fit(matrix, outcome(frame(), "binary"))
    graph = onnx.export(encoder, forest, whole, "binary", 2)
    with pytest.raises(UserError, match=r"RandomForestClassifier: found .* \(edge row"):
        onnx.require_parity(graph, encoder, forest, whole, "binary", TOLERANCE)


@pytest.mark.parametrize("name", ["lightgbm", "linear"])
@pytest.mark.parametrize(
    "rows",
    [frame()[bundles.NUMBERS], frame()[bundles.WORDS]],
    ids=["numbers only", "words only"],
)
def test_few_kinds_of_values_are_no_obstacle(name, rows):
    encoder, estimator = fitted(name, "binary", rows)
    graph = onnx.export(encoder, estimator, rows, "binary", 2)
    onnx.require_parity(graph, encoder, estimator, rows, "binary", TOLERANCE)


CONVERTERS_OWN = ["label", "probabilities", "variable", "input_0", "column_axis", "model"]


@pytest.mark.parametrize(
    ("name", "task"), [("lightgbm", "binary"), ("linear", "multiclass"), ("xgboost", "regression")]
)
def test_a_column_may_have_a_name_that_the_converter_gives_itself(name, task):
    rows = frame().set_axis([*CONVERTERS_OWN, *bundles.COLUMNS][: len(bundles.COLUMNS)], axis=1)
    encoder, estimator = fitted(name, task, rows)
    graph = onnx.export(encoder, estimator, rows, task, bundles.CLASSES[task])
    onnx.require_parity(graph, encoder, estimator, rows, task, TOLERANCE)


@pytest.mark.parametrize("name", bundles.FAMILIES)
def test_a_column_that_has_no_value_yet_does_not_count(name):
    rows = frame().assign(z=np.float32(np.nan), city="")
    encoder, estimator = fitted(name, "binary", rows)
    graph = onnx.export(encoder, estimator, rows, "binary", 2)
    onnx.require_parity(graph, encoder, estimator, frame(), "binary", TOLERANCE)
