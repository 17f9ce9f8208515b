"""The service's OpenAPI 3.1 document, made from the bundle's card and the decoders' types."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from http import HTTPStatus
from importlib.metadata import version
from typing import Any, NamedTuple

import msgspec
import numpy as np

from mlops.base.errors import listed
from mlops.contract.bundle import Card, Input
from mlops.serving.inference import BYTES
from mlops.serving.invocations import CSV, FORMS
from mlops.serving.service import Endpoint

Json = dict[str, Any]
JSON, BINARY = "application/json", "application/octet-stream"
DATATYPES = {"float": "FP32", "string": BYTES}
# The largest double that is a finite float32 when it is rounded.
LARGEST = float(np.nextafter(2.0**128 - 2.0**103, 0))
NUMBER = {"type": ["number", "null"], "minimum": -LARGEST, "maximum": LARGEST}
STRING = {"type": ["string", "null"]}
TEXT = {"type": "string"}
# Null where the model itself has no finite answer.
SCORE = {"type": ["number", "null"]}
SCHEMAS = "#/components/schemas/"
RECORD, PREDICTION = {"$ref": f"{SCHEMAS}Record"}, {"$ref": f"{SCHEMAS}Prediction"}
REFUSED = {JSON: {"schema": {"$ref": f"{SCHEMAS}Refusal"}}}
# Categories of a column that are shown.
SHOWN = 12
# What a scoring route may answer: a reason in one line.
REFUSALS = ["400", "401", "408", "413", "415", "422", "429"]


class Route(NamedTuple):
    """A path's name in metrics, its handler, and what the document says of it."""

    name: str
    handler: Callable[..., Any]
    summary: str
    content_type: str = JSON


def document(endpoint: Endpoint, routes: Mapping[tuple[str, str], Route]) -> Json:
    """The OpenAPI document of a service with this model; `routes` are by method and path."""
    card, digest = endpoint.model.card, endpoint.model.digest
    data = card.trained_on
    span = f" of {data['since']} to {data['until']}" if {"since", "until"} <= data.keys() else ""
    rows = f" on {data['rows']} rows{span}" if "rows" in data else ""
    decoders = endpoint.invocations.decoder, endpoint.inference.decoder, endpoint.predict.keyed
    types = [decoder.type for decoder in decoders]
    _, schemas = msgspec.json.schema_components(types, ref_template=f"{SCHEMAS}{{name}}")
    schemas["Envelope"]["oneOf"] = [{"required": [form]} for form in FORMS]
    schemas["Record"] = record(card)
    schemas["Prediction"] = _prediction(card)
    schemas["Refusal"] = _object({"error": TEXT, "id": TEXT})
    bodies, answers = _bodies(card), _answers(card)
    paths: dict[str, Json] = {}
    for (method, path), route in routes.items():
        about: Json = {"summary": route.summary}
        schema = {"type": "object"} if route.content_type == JSON else TEXT
        content = {route.content_type: {"schema": schema}}
        statuses = ["503" if route.name in ("ping", "ready") else "401"]
        if method == "POST":
            about["requestBody"] = {"required": True, "content": bodies[route.name]}
            content, statuses = answers[route.name], REFUSALS
        about["responses"] = {"200": {"description": route.summary, "content": content}} | {
            status: {"description": HTTPStatus(int(status)).phrase, "content": REFUSED}
            for status in statuses
        }
        paths.setdefault(path, {})[method.lower()] = about
    return {
        "openapi": "3.1.0",
        "info": {
            "title": f"{card.name}: {card.target}",
            "version": version("mlops"),
            "description": f"Bundle {digest}, a {card.family} trained{rows}. "
            "A null is a missing value.",
        },
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{}, {"token": []}],
    }


def _bodies(card: Card) -> dict[str, Json]:
    """For each scoring route its body's schema and example, by content type."""
    row = card.example
    tensors = [
        {"name": c.name, "shape": [1], "datatype": DATATYPES[c.type], "data": [row[c.name]]}
        for c in card.inputs
    ]
    cells = ("" if value is None else str(value) for value in row.values())
    records = {"anyOf": [RECORD, {"type": "array", "items": RECORD, "minItems": 1}]}
    if card.key:
        records["anyOf"].append({"$ref": f"{SCHEMAS}Keyed"})
    envelope, request = ({"$ref": f"{SCHEMAS}{name}"} for name in ("Envelope", "InferRequest"))
    return {
        "predict": {JSON: {"schema": records, "example": row}},
        "invocations": {
            JSON: {"schema": envelope, "example": {"dataframe_records": [row]}},
            CSV: {"schema": TEXT, "example": f"{','.join(row)}\n{','.join(cells)}\n"},
        },
        "v2 infer": {JSON: {"schema": request, "example": {"inputs": tensors}}, BINARY: {}},
    }


def _answers(card: Card) -> dict[str, Json]:
    """For each scoring route the schema of its scores, by content type."""
    names = dict.fromkeys(("model", "version", "digest", "id"), TEXT)
    scores = _object(dict.fromkeys(card.outputs, SCORE))
    output = _object({"name": TEXT, "datatype": TEXT, "shape": {"type": "array"}})
    schemas = {
        "predict": _object({**names, "predictions": {"type": "array", "items": PREDICTION}}),
        "invocations": _object({"predictions": {"type": "array", "items": scores}}),
        "v2 infer": _object({"model_name": TEXT, "outputs": {"type": "array", "items": output}}),
    }
    answers = {name: {JSON: {"schema": schema}} for name, schema in schemas.items()}
    answers["v2 infer"][BINARY] = {}
    return answers


def record(card: Card) -> Json:
    """The schema of one record."""
    columns = _object({column.name: _column(column) for column in card.inputs})
    columns["required"] = [n for n in columns["required"] if n not in card.optional]
    columns["properties"] |= {name: {"description": "ignored"} for name in card.retired}
    if card.key:
        columns["properties"][card.key] = STRING | {"description": "the key, kept in samples"}
    return columns | {"additionalProperties": False, "examples": [card.example]}


def _column(column: Input) -> Json:
    if column.type == "float":
        return NUMBER | {"description": column.unit}
    seen = listed(column.categories, SHOWN)
    return STRING | {"description": f"{column.unit}; training saw {seen}"}


def _prediction(card: Card) -> Json:
    if card.task == "multiclass":
        probabilities = {"type": "array", "items": SCORE}
        kind = "string" if card.labels else "integer"
        in_order = {"description": f"of {', '.join(card.class_names)}"}
        chosen = {"type": [kind, "null"]}
        return _object({"probabilities": probabilities | in_order, "class": chosen})
    if card.task == "regression":
        return _object({"prediction": SCORE})
    positive = {"description": f"of {card.class_names[1]}"}
    decision = {} if card.threshold is None else {"decision": {"type": ["boolean", "null"]}}
    return _object({"probability": SCORE | positive} | decision)


def _object(properties: Json) -> Json:
    return {"type": "object", "properties": properties, "required": list(properties)}
