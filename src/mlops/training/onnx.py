"""Export a fitted model to one ONNX graph of named columns, and prove that both predict alike."""

from __future__ import annotations

import copy
import re
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from mlops.base.errors import UserError
from mlops.contract import bundle
from mlops.contract.dataset import categories
from mlops.contract.project import Task
from mlops.training import families

if TYPE_CHECKING:
    import pandas as pd

OPSET = {"": 18, "ai.onnx.ml": 3}
UNSEEN = "\N{SNOWMAN} never seen"
EXTREME = 1e6


def export(encoder: Any, estimator: Any, frame: pd.DataFrame, task: Task, classes: int) -> bytes:
    """The graph's bytes: one input of the shape (rows,) for each column of `frame`, categories
    as strings.

    Outputs, each of the shape (rows,): `probability`, `probability_<class>` or `prediction`.
    """
    from skl2onnx import to_onnx
    from skl2onnx.common.data_types import FloatTensorType, StringTensorType
    from sklearn.pipeline import Pipeline

    _register_converters()
    categorical = categories(frame)
    # Names that the converter gives to nothing else, whatever the columns are called.
    inner = {name: f"input_{number}" for number, name in enumerate(frame)}
    types = [
        (inner[n], StringTensorType([None, 1]) if n in categorical else FloatTensorType([None, 1]))
        for n in frame
    ]
    pipeline = Pipeline([("encode", _renamed(encoder, inner)), ("model", estimator)])
    options = {} if task == "regression" else {id(estimator): {"zipmap": False}}
    graph = to_onnx(
        pipeline, initial_types=types, options=options, target_opset=OPSET, name="model"
    )
    _take_columns(graph, list(map(str, frame)))
    _give_columns(graph, task, classes)
    # The converter lists them in the order of a set: another one in every other process.
    opsets = sorted(graph.opset_import, key=lambda opset: str(opset.domain))
    del graph.opset_import[:]
    graph.opset_import.extend(opsets)
    onnx.checker.check_model(graph)
    return bytes(graph.SerializeToString(deterministic=True))


def require_converter(name: str, estimator: Any, task: Task) -> None:
    """Raise UserError, before a search, for a family whose estimator can't be exported.

    `estimator` is an unfitted one, and fitted on made-up rows. Nothing is raised where it can't be
    fitted on these: the first trial says so.
    """
    import pandas as pd
    from skl2onnx.common.exceptions import MissingConverter, MissingShapeCalculator

    random = np.random.default_rng(0)
    frame = pd.DataFrame(random.normal(size=(200, 2)).astype(np.float32), columns=["a", "b"])
    classes = {"regression": 1, "binary": 2, "multiclass": 3}[task]
    outcome = frame["a"] if task == "regression" else np.arange(len(frame)) % classes
    encoder = families.encoder("ordinal", frame).fit(frame)
    try:
        estimator.fit(encoder.transform(frame), outcome)
        export(encoder, estimator, frame, task, classes)
    except (MissingConverter, MissingShapeCalculator):
        kind = type(estimator).__name__
        raise UserError(
            f"params.yaml: tune.families: {name}: found {kind}, for which skl2onnx has no converter"
        ) from None
    except Exception:
        return


def output_names(task: Task, classes: int) -> list[str]:
    """The graph's outputs, in order."""
    if task == "regression":
        return ["prediction"]
    if task == "binary":
        return ["probability"]
    return [f"probability_{number}" for number in range(classes)]


def require_parity(
    model: bytes,
    encoder: Any,
    estimator: Any,
    frame: pd.DataFrame,
    task: Task,
    tolerance: float,
) -> float:
    """The largest difference between the graph and the native model on `frame` and on edge rows.

    Raises UserError when it exceeds `tolerance`: such a model must not be registered. For a
    regression the difference is relative to the spread of the predictions, or to the prediction
    itself where that is larger: float32 has seven digits, however extreme the row.
    """
    session = bundle.session(model)
    worst = 0.0
    spread = 1.0
    for rows in (frame, edge_rows(frame)):
        native = families.predict(estimator, task, encoder.transform(rows).astype(np.float32))
        exported = bundle.predict(session, rows, task)
        if task == "regression" and rows is frame:
            spread = float(np.std(native)) or 1.0
        scale = np.maximum(spread, np.abs(native)) if task == "regression" else 1.0
        gap = np.abs(native - exported) / scale
        worst = max(worst, float(np.nan_to_num(gap, nan=np.inf).max()))
        if worst > tolerance:
            row = int(np.argmax(gap if gap.ndim == 1 else gap.max(axis=1)))
            kind = "holdout" if rows is frame else "edge"
            raise UserError(
                f"ONNX export of {type(estimator).__name__}: found a difference of {worst:.2g} "
                f"({kind} row {row}), expected at most {tolerance:g} (params.yaml: train.parity)"
            )
    return worst


def edge_rows(frame: pd.DataFrame) -> pd.DataFrame:
    """Rows that break careless exports: all missing, unseen, empty, zero and extreme values,
    and a typical row with one column at a time missing or unseen."""
    import pandas as pd

    categorical = categories(frame)
    typical = frame.iloc[0].to_dict()
    rows = [
        {name: word if name in categorical else number for name in frame}
        for number, word in [
            (np.nan, ""), (np.nan, UNSEEN), (0.0, UNSEEN), (EXTREME, ""), (-EXTREME, UNSEEN)
        ]
    ]  # fmt: skip
    for name in frame:
        for odd in (UNSEEN, "") if name in categorical else (np.nan,):
            rows.append(typical | {name: odd})
    return pd.DataFrame(rows).astype({name: frame[name].dtype for name in frame})


def _register_converters() -> None:
    """Teach skl2onnx the two families that live outside scikit-learn."""
    from lightgbm import LGBMClassifier, LGBMRegressor
    from onnxmltools.convert.xgboost.operator_converters.XGBoost import convert_xgboost
    from skl2onnx import update_registered_converter
    from skl2onnx.common import shape_calculator as shapes
    from xgboost import XGBClassifier, XGBRegressor

    classes = shapes.calculate_linear_classifier_output_shapes
    value = shapes.calculate_linear_regressor_output_shapes
    options = {"nocl": [True, False], "zipmap": [True, False, "columns"]}
    for kind, name, shape, convert in [
        (LGBMClassifier, "LightGbmLGBMClassifier", classes, _convert_lightgbm),
        (LGBMRegressor, "LightGbmLGBMRegressor", value, _convert_lightgbm),
        (XGBClassifier, "XGBoostXGBClassifier", classes, convert_xgboost),
        (XGBRegressor, "XGBoostXGBRegressor", value, convert_xgboost),
    ]:
        own = options if shape is classes else None
        update_registered_converter(kind, name, shape, convert, options=own)


def _convert_lightgbm(scope: Any, operator: Any, container: Any) -> None:
    """LightGBM's own converter, on a model whose thresholds are float32 already.

    LightGBM asks `x <= threshold` in double. The converter rounds to the nearest float32, and
    where that is upwards, a row whose value is just there takes the other branch. With every
    threshold rounded down it is, for float32 rows, the very same model.
    """
    import lightgbm
    from onnxmltools.convert.lightgbm.operator_converters.LightGbm import convert_lightgbm

    def rounded(line: re.Match[str]) -> str:
        return f"threshold={' '.join(repr(_rounded_down(float(t))) for t in line[1].split())}"

    model = copy.copy(operator.raw_operator)
    # Without the sizes of the trees, in bytes, LightGBM counts for itself.
    text = re.sub(r"(?m)^tree_sizes=.*\n", "", model.booster_.model_to_string())
    text = re.sub(r"(?m)^threshold=(.*)$", rounded, text)
    model._Booster = lightgbm.Booster(model_str=text)
    operator.raw_operator = model
    convert_lightgbm(scope, operator, container)


def _rounded_down(value: float) -> float:
    """The largest float32 that is not above `value`."""
    # As a Python float: NumPy would round `value` itself before it compared the two.
    nearest = float(np.float32(value))
    return nearest if nearest <= value else float(np.nextafter(np.float32(value), -np.inf))


def _renamed(encoder: Any, names: dict[Any, str]) -> Any:
    """A copy of a fitted ColumnTransformer whose columns have other names."""
    renamed = copy.copy(encoder)
    renamed.feature_names_in_ = np.array([names[n] for n in encoder.feature_names_in_], object)
    renamed.transformers_ = [
        (step, transformer, [names[name] for name in columns])
        for step, transformer, columns in encoder.transformers_
    ]
    return renamed


def _take_columns(graph: Any, columns: list[str]) -> None:
    """Let each input be a plain column of the shape (rows,), as MLflow's ONNX flavour feeds it.

    All other values get names that no column can have.
    """
    body = graph.graph
    for node in body.node:
        for values in (node.input, node.output):
            values[:] = [f".{name}" if name else "" for name in values]
    for value in (*body.initializer, *body.output):
        value.name = f".{value.name}"
    axis = helper.make_tensor(bundle.COLUMN_AXIS, TensorProto.INT64, [1], [1])
    body.initializer.append(axis)
    for position, (name, column) in enumerate(zip(columns, body.input, strict=True)):
        matrix = helper.make_node("Unsqueeze", [name, axis.name], [f".{column.name}"])
        body.node.insert(position, matrix)
        kind = column.type.tensor_type.elem_type
        column.CopyFrom(helper.make_tensor_value_info(name, kind, ["rows"]))


def _give_columns(graph: Any, task: Task, classes: int) -> None:
    """Replace the converter's outputs by one column for each number that a caller wants."""
    body = graph.graph
    source = body.output[-1].name
    columns = {"binary": [1], "regression": [0], "multiclass": list(range(classes))}[task]
    del body.output[:]
    for name, column in zip(output_names(task, classes), columns, strict=True):
        # A scalar index drops the axis: (rows, k) becomes (rows,).
        index = helper.make_tensor(f".{name}_index", TensorProto.INT64, [], [column])
        body.initializer.append(index)
        body.node.append(helper.make_node("Gather", [source, index.name], [name], axis=1))
        body.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, ["rows"]))
