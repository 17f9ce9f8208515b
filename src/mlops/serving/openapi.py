"""What the service says of itself: OpenAPI 3.1, made of the bundle's own schema, and a page."""

from __future__ import annotations

import html
import json
from importlib.metadata import version
from typing import Any

from mlops.core.bundle import Card, Input
from mlops.serving.model import Model

Json = dict[str, Any]
NUMBER = {"type": ["number", "null"]}
WORD = {"type": ["string", "null"]}
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
    return {
        "openapi": "3.1.0",
        "info": {
            "title": f"{card.name}: {card.target}",
            "version": version("mlops"),
            "description": f"Bundle {model.digest}, a {card.family} trained on "
            f"{card.trained_on['rows']} rows of {card.trained_on['since']} to "
            f"{card.trained_on['until']}. A null is a missing value.",
        },
        "paths": _paths(model),
        "components": {
            "schemas": {
                "Record": _record(card),
                "Prediction": _prediction(card),
                "Refusal": _object({"error": {"type": "string"}, "id": {"type": "string"}}),
            },
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{}, {"token": []}],
    }


def example(card: Card) -> Json:
    """A row of the training data."""
    return dict(card.example)


def _paths(model: Model) -> Json:
    card, row = model.card, example(model.card)
    record, many = {"$ref": "#/components/schemas/Record"}, {"type": "array", "minItems": 1}
    records = many | {"items": record}
    infer = f"/v2/models/{card.name}"
    split = _object({
        "columns": {"type": "array", "items": {"type": "string"}},
        "data": {"type": "array", "items": {"type": "array"}},
    })  # fmt: skip
    forms = [
        _object({name: schema}, extra=False)
        for name, schema in (
            ("dataframe_records", records), ("instances", records), ("inputs", records),
            ("dataframe_split", split),
        )
    ]  # fmt: skip
    return {
        "/predict": {"post": _scoring(
            "Score one record or many", {"anyOf": [record, records]}, row, _answered(card)
        )},
        "/invocations": {"post": _scoring(
            "Score in MLflow's forms", {"oneOf": forms}, {"dataframe_records": [row]},
            _object({"predictions": {"type": "array"}}),
        )},
        f"{infer}/infer": {"post": _scoring(
            "Score by the Open Inference Protocol", _tensors(card), tensors(card),
            _object({"model_name": {"type": "string"}, "outputs": {"type": "array"}}),
        )},
        infer: {"get": _reading("The model's inputs and outputs")},
        f"{infer}/ready": {"get": _reading("Whether the model is ready")},
        "/v2": {"get": _reading("The server's name and extensions")},
        "/v2/health/live": {"get": _reading("Whether the process lives")},
        "/v2/health/ready": {"get": _reading("Whether it takes requests")},
        "/model": {"get": _reading("The bundle's card")},
        "/openapi.json": {"get": _reading("This document")},
        "/ping": {"get": _reading("Whether it takes requests", "application/json", {})},
        "/health": {"get": _reading("Whether it takes requests", "application/json", {})},
        "/version": {"get": _reading("The service's version", "text/plain", {"type": "string"})},
        "/metrics": {"get": _reading("Prometheus' counters", "text/plain", {"type": "string"})},
        "/docs": {"get": _reading("A page to read", "text/html", {"type": "string"})},
    }  # fmt: skip


def tensors(card: Card) -> Json:
    """The example as tensors of the Open Inference Protocol."""
    kinds = {"float": "FP32", "string": "BYTES"}
    row = example(card)
    return {
        "inputs": [
            {"name": c.name, "shape": [1], "datatype": kinds[c.type], "data": [row[c.name]]}
            for c in card.inputs
        ]
    }


def _tensors(card: Card) -> Json:
    tensor = _object({
        "name": {"enum": [column.name for column in card.inputs]},
        "shape": {"type": "array", "items": {"type": "integer"}, "minItems": 1, "maxItems": 2},
        "datatype": {"type": "string"},
        "data": {"type": "array"},
    })  # fmt: skip
    count = len(card.inputs)
    listed = {"type": "array", "items": tensor, "minItems": count, "maxItems": count}
    return _object({"inputs": listed})


def _record(card: Card) -> Json:
    properties = {column.name: _column(column) for column in card.inputs}
    return _object(properties, extra=False) | {"examples": [example(card)]}


def _column(column: Input) -> Json:
    if column.type == "float":
        return NUMBER | {"description": column.unit}
    known = ", ".join(column.categories[:12]) + (", …" if len(column.categories) > 12 else "")
    return WORD | {"description": f"{column.unit}; training saw {known}"}


def _prediction(card: Card) -> Json:
    if card.task == "multiclass":
        return _object({
            "probabilities": {"type": "array", "items": {"type": "number"}},
            "class": {"type": "integer"},
        })  # fmt: skip
    if card.task == "regression":
        return _object({"prediction": {"type": "number"}})
    decision = {} if card.threshold is None else {"decision": {"type": "boolean"}}
    return _object({"probability": {"type": "number"}} | decision)


def _answered(card: Card) -> Json:
    text = {"type": "string"}
    found = {"type": "array", "items": {"$ref": "#/components/schemas/Prediction"}}
    return _object(
        {"model": text, "version": text, "digest": text, "id": text, "predictions": found}
    )


def _object(properties: Json, extra: bool = True) -> Json:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": extra,
    }


def _scoring(summary: str, body: Json, shown: Json, answer: Json) -> Json:
    refusal = {"application/json": {"schema": {"$ref": "#/components/schemas/Refusal"}}}
    return {
        "summary": summary,
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": body, "example": shown}},
        },
        "responses": {
            "200": {"description": "The scores", "content": {"application/json": {
                "schema": answer}}},
            **{code: {"description": text, "content": refusal} for code, text in REFUSALS.items()},
        },
    }  # fmt: skip


def _reading(summary: str, kind: str = "application/json", schema: Json | None = None) -> Json:
    found = {"type": "object"} if schema is None else schema
    refusal = {"application/json": {"schema": {"$ref": "#/components/schemas/Refusal"}}}
    return {
        "summary": summary,
        "responses": {
            "200": {"description": summary, "content": {kind: {"schema": found}}},
            "401": {"description": REFUSALS["401"], "content": refusal},
        },
    }


def page(model: Model) -> str:
    """The same for people: what to send, to which path, with a real row to try."""
    card = model.card
    row = json.dumps(example(card), indent=2, ensure_ascii=False)
    rows = "\n".join(
        f"<tr><td><code>{html.escape(c.name)}</code></td><td>{c.type}</td>"
        f"<td>{html.escape(c.unit)}</td></tr>"
        for c in card.inputs
    )
    paths = "\n".join(
        f"<tr><td><code>{method.upper()} {html.escape(path)}</code></td>"
        f"<td>{html.escape(what['summary'])}</td></tr>"
        for path, methods in _paths(model).items()
        for method, what in methods.items()
    )
    return PAGE.format(
        name=html.escape(card.name), target=html.escape(card.target), digest=model.digest,
        row=html.escape(row), rows=rows, paths=paths,
    )  # fmt: skip


PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{name}</title>
<style>
:root {{ color-scheme: light dark }}
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto }}
table {{ border-collapse: collapse; width: 100% }}
td {{ border-top: 1px solid #8884; padding: .3rem .6rem .3rem 0; vertical-align: top }}
textarea, pre {{ box-sizing: border-box; width: 100%; font: 14px/1.4 ui-monospace, monospace }}
textarea {{ height: 20rem }} pre {{ white-space: pre-wrap }}
</style>
<h1>{name}</h1>
<p>Predicts <code>{target}</code> with bundle <code>{digest}</code>.
The whole description is in <a href="openapi.json">openapi.json</a>.</p>
<h2>Try it</h2>
<p>A row of the training data, for <code>POST /predict</code>.</p>
<textarea id="body" aria-label="The request's body">{row}</textarea>
<p><button id="send">Send</button></p><pre id="answer" aria-live="polite"></pre>
<h2>Paths</h2><table>{paths}</table>
<h2>Columns</h2><table>{rows}</table>
<script>
document.getElementById("send").onclick = async () => {{
  const body = document.getElementById("body").value;
  const headers = {{"content-type": "application/json"}};
  const answer = await fetch("predict", {{method: "POST", body, headers}});
  document.getElementById("answer").textContent = answer.status + " " + await answer.text();
}};
</script>
"""
