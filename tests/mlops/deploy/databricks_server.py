"""Databricks Model Serving's REST API in this process, with a state and its delays.

A configuration is pending for a few requests; meanwhile another is refused with 409. What is
served really scores, with the bundle that the version was registered from.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from mlops.contract import bundle
from tests.mlops.deploy.cloud import Answer, Call, Cloud

API = "/api/2.0/serving-endpoints"
TOKEN = "the-owners"


class Databricks(Cloud):
    """A workspace with its endpoints and its registry."""

    routes = (
        (rf"POST {API}", "create"),
        (rf"GET {API}/([^/]+)", "get"),
        (rf"PUT {API}/([^/]+)/config", "update"),
        (rf"PATCH {API}/([^/]+)/tags", "tag"),
        (rf"DELETE {API}/([^/]+)", "delete"),
        (rf"GET {API}/([^/]+)/metrics", "metrics"),
        (r"GET /api/2\.0/mlflow/unity-catalog/model-versions/get", "version"),
        (r"POST /api/2\.0/sql/statements", "execute"),
        (r"POST /serving-endpoints/([^/]+)/served-models/([^/]+)/invocations", "score"),
    )

    def reset(self, polls: int = 2) -> None:
        super().reset(polls)
        self.endpoints: dict[str, Any] = {}
        # The registry: folder and tags of each version.
        self.versions: dict[tuple[str, str], tuple[Path, dict[str, str]]] = {}
        # Why the next change fails.
        self.failure = ""
        self.exported = ""
        # The state and the rows, or the reason, of each statement; and what was asked.
        self.statement: dict[str, Any] = {}
        self.statements: list[Any] = []

    def environment(self) -> dict[str, str]:
        return {"DATABRICKS_HOST": self.url, "DATABRICKS_TOKEN": TOKEN}

    def register(self, model: str, version: int, folder: Path) -> None:
        """Make a version of a bundle, as `mlops register` does."""
        self.versions[model, str(version)] = folder, {"mlops_bundle": bundle.digest(folder)}

    def shares(self, name: str) -> dict[str, int]:
        routes = self.endpoints[name]["config"]["traffic_config"]["routes"]
        return {route["served_model_name"]: route["traffic_percentage"] for route in routes}

    def denied(self, path: str, call: Call) -> Answer | None:
        if call.headers.get("Authorization") == f"Bearer {TOKEN}":
            return None
        return _error(401, "UNAUTHENTICATED", "Credential was not sent or is of another.")

    def missing(self, path: str) -> Answer:
        return _error(404, "RESOURCE_DOES_NOT_EXIST", f"{path} does not exist.")

    def get(self, call: Call, name: str) -> Answer:
        return Answer(200, self._endpoint(name))

    def create(self, call: Call) -> Answer:
        name = call.body["name"]
        if name in self.endpoints:
            return _error(400, "RESOURCE_ALREADY_EXISTS", f"Endpoint {name} already exists.")
        self.endpoints[name] = {"name": name, "tags": [], "config": {}, "state": {}}
        try:
            return self._begin(name, call.body["config"])
        except Answer:
            del self.endpoints[name]
            raise

    def update(self, call: Call, name: str) -> Answer:
        self._endpoint(name)
        if any(name == changed for _, changed, _ in self.pending):
            return _error(409, "RESOURCE_CONFLICT", "The endpoint is being updated already.")
        return self._begin(name, call.body)

    def delete(self, call: Call, name: str) -> Answer:
        self._endpoint(name)
        del self.endpoints[name]
        self.pending = [change for change in self.pending if change[1] != name]
        return Answer(200, {})

    def tag(self, call: Call, name: str) -> Answer:
        endpoint, added = self._endpoint(name), call.body.get("add_tags", [])
        keys = {tag["key"] for tag in added} | set(call.body.get("delete_tags", []))
        endpoint["tags"] = [tag for tag in endpoint["tags"] if tag["key"] not in keys] + added
        return Answer(200, {"tags": endpoint["tags"]})

    def version(self, call: Call) -> Answer:
        name, version = call.query["name"], call.query["version"]
        if (name, version) not in self.versions:
            return self.missing(f"{name} version {version}")
        tags = [{"key": k, "value": v} for k, v in self.versions[name, version][1].items()]
        return Answer(200, {"model_version": {**call.query, "status": "READY", "tags": tags}})

    def score(self, call: Call, name: str, entity: str) -> Answer:
        for served in self._endpoint(name)["config"].get("served_entities", []):
            if served["name"] == entity:
                folder, _ = self.versions[served["entity_name"], served["entity_version"]]
                scorer = bundle.Scorer(folder)
                scores = scorer.predict(pd.DataFrame(call.body["dataframe_records"])).tolist()
                rows = [{scorer.card.outputs[0]: score} for score in scores]
                return Answer(200, {"predictions": rows})
        return self.missing(entity)

    def execute(self, call: Call) -> Answer:
        self.statements.append(call.body)
        ((state, content),) = self.statement.items()
        if state != "SUCCEEDED":
            return Answer(200, {"status": {"state": state, "error": {"message": content}}})
        return Answer(200, {"status": {"state": state}, "result": {"data_array": content}})

    def metrics(self, call: Call, name: str) -> Answer:
        self._endpoint(name)
        return Answer(200, self.exported)

    def _endpoint(self, name: str) -> Any:
        if name not in self.endpoints:
            raise self.missing(f"Endpoint {name}")
        return self.endpoints[name]

    def _begin(self, name: str, content: Any) -> Answer:
        self._require_valid(content)
        endpoint, failure, self.failure = self.endpoints[name], self.failure, ""
        state = {"deployment": "DEPLOYMENT_CREATING"}
        entities = [{**entity, "creator": "owner", "creation_timestamp": 1, "state": state}
                    for entity in content["served_entities"]]  # fmt: skip
        endpoint["pending_config"] = {**content, "served_entities": entities}
        endpoint["state"] = {"ready": "READY" if endpoint["config"] else "NOT_READY",
                             "config_update": "IN_PROGRESS"}  # fmt: skip
        self.begin(name, lambda: _end(endpoint, failure))
        return Answer(200, endpoint)

    def _require_valid(self, content: Any) -> None:
        names = [entity["name"] for entity in content["served_entities"]]
        routes = content["traffic_config"]["routes"]
        if sorted(route["served_model_name"] for route in routes) != sorted(set(names)):
            raise _error(400, "INVALID_PARAMETER_VALUE", "Routes and served entities differ.")
        if sum(route["traffic_percentage"] for route in routes) != 100:
            raise _error(400, "INVALID_PARAMETER_VALUE", "Traffic must sum to 100.")
        for entity in content["served_entities"]:
            if (entity["entity_name"], entity["entity_version"]) not in self.versions:
                raise self.missing(f"{entity['entity_name']} version {entity['entity_version']}")


def _end(endpoint: Any, failure: str) -> None:
    pending = endpoint["pending_config"]
    served = {entity["name"] for entity in endpoint["config"].get("served_entities", [])}
    for entity in pending["served_entities"]:
        failed = failure and entity["name"] not in served
        entity["state"] = {
            "deployment": "DEPLOYMENT_FAILED" if failed else "DEPLOYMENT_READY",
            "deployment_state_message": failure if failed else "",
        }
    if failure:
        endpoint["state"]["config_update"] = "UPDATE_FAILED"
        # Without an earlier one, the failed configuration is the endpoint's.
        endpoint["config"] = endpoint["config"] or pending
        return
    endpoint["config"] = endpoint.pop("pending_config")
    endpoint["state"] = {"ready": "READY", "config_update": "NOT_UPDATING"}


def _error(status: int, code: str, message: str) -> Answer:
    return Answer(status, {"error_code": code, "message": message})
