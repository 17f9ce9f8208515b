"""The service's OpenAPI 3.1 document, made from the bundle's card."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

import numpy as np

from mlops.contract.bundle import Card, Input
from mlops.serving.inference import BYTES, NUMERIC, SIZE
from mlops.serving.model import Model

Json = dict[str, Any]
# The largest double that is a finite float32 when it is rounded.
LARGEST = float(np.nextafter(2.0**128 - 2.0**103, 0))
NUMBER = {"type": ["number", "null"], "minimum": -LARGEST, "maximum": LARGEST}
STRING = {"type": ["string", "null"]}
TEXT, COUNT, FLAG = {"type": "string"}, {"type": "integer", "minimum": 0}, {"type": "boolean"}
# Null where the model itself has no finite answer.
SCORE = {"type": ["number", "null"]}
JSON, CSV, BINARY = "application/json", "text/csv", "application/octet-stream"
RECORD = {"$ref": "#/components/schemas/Record"}
REFUSALS = {
    "400": "The body is not what its content type says.",
    "401": "The bearer token is missing or another.",
    "408": "The body did not arrive in time.",
    "413": "Too many rows, or too many bytes.",
    "415": "Another content type is expected.",
    "422": "A column is unknown, missing or of the wrong type; the answer names row and column.",
    "429": "Too much is under way: come back after Retry-After seconds.",
}


def document(model: Model) -> Json:
    """The OpenAPI document of a service with this model."""
    card = model.card
    data = card.trained_on
    span = f" of {data['since']} to {data['until']}" if {"since", "until"} <= data.keys() else ""
    rows = f" on {data['rows']} rows{span}" if "rows" in data else ""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": f"{card.name}: {card.target}",
            "version": version("mlops"),
            "description": f"Bundle {model.digest}, a {card.family} trained{rows}. "
            "A null is a missing value.",
        },
        "paths": paths(model),
        "components": {
            "schemas": {
                "Record": _record(card),
                "Prediction": _prediction(card),
                "Refusal": _object({"error": TEXT, "id": TEXT}),
            },
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{}, {"token": []}],
    }


def example(card: Card) -> Json:
    """A row of the training data."""
    return dict(card.example)


def paths(model: Model) -> Json:
    """Every path, its methods, and what each takes and answers."""
    card, row = model.card, example(model.card)
    infer = f"/v2/models/{card.name}"
    score = _object({"predictions": _listed(_object(dict.fromkeys(card.outputs, SCORE)))})
    return {
        "/predict": {"post": _scoring(
            "Score one record or many", {JSON: ({"anyOf": [RECORD, _rows(RECORD)]}, row)},
            _predictions(card),
        )},
        "/invocations": {"post": _scoring(
            "Score in MLflow's forms",
            {JSON: ({"oneOf": _forms(card)}, {"dataframe_records": [row]}), CSV: (TEXT, _csv(row))},
            score,
        )},
        f"{infer}/infer": {"post": _scoring(
            "Score by the Open Inference Protocol",
            {JSON: (_tensors(card), tensors(card)), BINARY: ({}, None)},
            _object({"model_name": TEXT, "outputs": _listed(_output(card))}), BINARY,
        )},
        infer: {"get": _reading("The model's inputs and outputs")},
        f"{infer}/ready": {"get": _ready("Whether the model is ready", _readiness())},
        "/v2": {"get": _reading("The server's name and extensions")},
        "/v2/health/live": {"get": _reading("Whether the process lives", _object({"live": FLAG}))},
        "/v2/health/ready": {"get": _ready("Whether it takes requests", _readiness())},
        "/model": {"get": _reading("The bundle's card")},
        "/openapi.json": {"get": _reading("This document")},
        "/ping": {"get": _ready("Whether it takes requests", TEXT, "text/plain")},
        "/health": {"get": _ready("Whether it takes requests", TEXT, "text/plain")},
        "/version": {"get": _reading("The service's version", TEXT, "text/plain")},
        "/metrics": {"get": _reading("Prometheus' counters", TEXT, "text/plain")},
        "/docs": {"get": _reading("A page to read", TEXT, "text/html")},
    }  # fmt: skip


def tensors(card: Card) -> Json:
    """The example as tensors of the Open Inference Protocol."""
    row = example(card)
    return {
        "inputs": [
            {"name": c.name, "shape": [1], "datatype": _datatype(c), "data": [row[c.name]]}
            for c in card.inputs
        ]
    }


def _datatype(column: Input) -> str:
    return "FP32" if column.type == "float" else BYTES


def _csv(row: Json) -> str:
    cells = ("" if value is None else str(value) for value in row.values())
    return f"{','.join(row)}\n{','.join(cells)}\n"


def _forms(card: Card) -> list[Json]:
    """MLflow's forms: a body has one of them."""
    values = {column.name: {"type": "array", "items": _value(column)} for column in card.inputs}
    names = {"type": "array", "items": {"enum": list(values)}, "uniqueItems": True}
    split = _object({
        "columns": names | {"minItems": len(values)},
        "data": _rows({"type": "array", "minItems": len(values), "maxItems": len(values)}),
    })  # fmt: skip
    many = _rows(RECORD)
    either = {"anyOf": [RECORD, many, _object(values, extra=False)]}
    forms = {"dataframe_split": split, "dataframe_records": many, "instances": either,
             "inputs": either}  # fmt: skip
    return [
        {**_object({name: form}, extra=False), "properties": {name: form, "params": {}}}
        for name, form in forms.items()
    ]


def _tensors(card: Card) -> Json:
    count = len(card.inputs)
    inputs = {"type": "array", "items": {"oneOf": [_tensor(c) for c in card.inputs]},
              "minItems": count, "maxItems": count}  # fmt: skip
    outputs = _listed({"type": "object", "properties": {"name": {"enum": list(card.outputs)}},
                       "required": ["name"]})  # fmt: skip
    optional = {"id": {"type": ["string", "null"]}, "parameters": {"type": ["object", "null"]},
                "outputs": outputs | {"type": ["array", "null"]}}  # fmt: skip
    whole = _object({"inputs": inputs})
    return whole | {"properties": whole["properties"] | optional}


def _tensor(column: Input) -> Json:
    """One column as a tensor, (rows,) or (rows, 1), or in bytes behind the JSON."""
    kinds = list(NUMERIC) if column.type == "float" else [BYTES]
    parameters = {"type": ["object", "null"], "properties": {SIZE: COUNT}}
    tensor = _object({
        "name": {"const": column.name}, "datatype": {"enum": kinds},
        "shape": {"type": "array", "items": COUNT, "minItems": 1, "maxItems": 2},
    })  # fmt: skip
    return tensor | {
        "properties": tensor["properties"] | {"data": {"type": "array"}, "parameters": parameters}
    }


def _output(card: Card) -> Json:
    return _object({
        "name": {"enum": list(card.outputs)}, "datatype": {"const": "FP32"},
        "shape": {"type": "array", "items": COUNT},
    }) | {"anyOf": [_object({"data": _listed(SCORE)}), _object({"parameters": {}})]}  # fmt: skip


def _record(card: Card) -> Json:
    properties = {column.name: _column(column) for column in card.inputs}
    return _object(properties, extra=False) | {"examples": [example(card)]}


def _value(column: Input) -> Json:
    return NUMBER if column.type == "float" else STRING


def _column(column: Input) -> Json:
    if column.type == "float":
        return NUMBER | {"description": column.unit}
    seen = ", ".join(column.categories[:12]) + (", …" if len(column.categories) > 12 else "")
    return STRING | {"description": f"{column.unit}; training saw {seen}"}


def _prediction(card: Card) -> Json:
    if card.task == "multiclass":
        return _object({"probabilities": _listed(SCORE), "class": {"type": ["integer", "null"]}})
    if card.task == "regression":
        return _object({"prediction": SCORE})
    decision = {} if card.threshold is None else {"decision": {"type": ["boolean", "null"]}}
    return _object({"probability": SCORE} | decision)


def _predictions(card: Card) -> Json:
    predictions = _listed({"$ref": "#/components/schemas/Prediction"})
    return _object(
        {"model": TEXT, "version": TEXT, "digest": TEXT, "id": TEXT, "predictions": predictions}
    )


def _readiness() -> Json:
    return _object({"ready": FLAG, "name": TEXT})


def _listed(item: Json) -> Json:
    return {"type": "array", "items": item}


def _rows(item: Json) -> Json:
    return _listed(item) | {"minItems": 1}


def _object(properties: Json, extra: bool = True) -> Json:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": extra,
    }


def _response(description: str, schema: Json, *kinds: str) -> Json:
    return {"description": description, "content": {kind: {"schema": schema} for kind in kinds}}


def _refused(*statuses: str) -> Json:
    refusal = {"$ref": "#/components/schemas/Refusal"}
    reasons = REFUSALS | {"503": "The service is stopping."}
    return {status: _response(reasons[status], refusal, JSON) for status in statuses}


def _scoring(summary: str, bodies: dict[str, tuple[Json, Any]], answer: Json, *also: str) -> Json:
    """`bodies` has schema and example by content type; the answer is JSON, or one of `also`."""
    content = {
        kind: {"schema": schema} | ({} if shown is None else {"example": shown})
        for kind, (schema, shown) in bodies.items()
    }
    response = _response("The scores", answer, JSON)
    response["content"] |= {kind: {} for kind in also}
    return {
        "summary": summary,
        "requestBody": {"required": True, "content": content},
        "responses": {"200": response, **_refused(*REFUSALS)},
    }


def _reading(summary: str, schema: Json | None = None, kind: str = JSON) -> Json:
    return {
        "summary": summary,
        "responses": {
            "200": _response(summary, schema or {"type": "object"}, kind),
            **_refused("401"),
        },
    }


def _ready(summary: str, schema: Json, kind: str = JSON) -> Json:
    responses = {"200": _response(summary, schema, kind), **_refused("503")}
    return {"summary": summary, "responses": responses}
