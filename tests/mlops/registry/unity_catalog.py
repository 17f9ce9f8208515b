"""Unity Catalog's model registry in front of a tracking server, as MLflow's own messages have it.

Requests are read with, and answers made of, `mlflow.protos.databricks_uc_registry_messages_pb2`.
What Databricks documents of names, tags and searches is refused here too: three parts, no reserved
characters in a tag's key, one condition. A version's files come through the Files API, and it is
READY once it is finalized with all of them. What is not of the registry goes on to `tracking`,
a client of MLflow's own REST API.
"""

from __future__ import annotations

import json
import re
from typing import Any

from mlflow.protos import databricks_uc_registry_messages_pb2 as messages
from mlflow.utils.proto_json_utils import message_to_json, parse_dict

from tests.mlops.deploy.cloud import Answer, Call, Cloud

API, FILES = "/api/2.0/mlflow/unity-catalog", "/api/2.0/fs"
TOKEN = "the-owners"
PAGE = 2
RESERVED = re.compile(r"[.,\-=/:]")
LONGEST_VALUE = 1000


class UnityCatalog(Cloud):
    """A metastore with models, and a workspace whose experiments are at absolute paths."""

    routes = (
        (rf"POST {API}/registered-models/create", "create_model"),
        (rf"POST {API}/registered-models/alias", "set_alias"),
        (rf"DELETE {API}/registered-models/alias", "delete_alias"),
        (rf"GET {API}/registered-models/alias", "by_alias"),
        (rf"GET {API}/registered-models/get", "get_model"),
        (rf"POST {API}/model-versions/create", "create_version"),
        (rf"POST {API}/model-versions/finalize", "finalize"),
        (rf"GET {API}/model-versions/get", "get_version"),
        (rf"GET {API}/model-versions/search", "search"),
        (rf"POST {API}/model-versions/set-tag", "set_tag"),
        (rf"PUT {FILES}/files/Models/(.+)", "upload"),
        (rf"GET {FILES}/files/Models/(.+)", "download"),
        (rf"HEAD {FILES}/directories/Models/(.+)", "directory"),
        (rf"GET {FILES}/directories/Models/(.+)", "entries"),
        (r"(POST|GET|PATCH|PUT|DELETE) (/api/2\.0/mlflow/(?!unity-catalog).+)", "forward"),
    )

    def __init__(self, tracking: Any = None) -> None:
        super().__init__()
        self.tracking = tracking
        self.versions: dict[tuple[str, str], Any] = {}
        self.aliases: dict[tuple[str, str], str] = {}
        self.models: set[str] = set()
        self.files: dict[str, bytes] = {}

    def environment(self) -> dict[str, str]:
        return {"DATABRICKS_HOST": self.url, "DATABRICKS_TOKEN": TOKEN}

    def tags(self, model: str, version: int) -> dict[str, str]:
        return {tag.key: tag.value for tag in self.versions[model, str(version)].tags}

    def denied(self, path: str, call: Call) -> Answer | None:
        if call.headers.get("Authorization") == f"Bearer {TOKEN}":
            return None
        return _error(401, "UNAUTHENTICATED", "Credential was not sent or is of another.")

    def missing(self, path: str) -> Answer:
        return _error(404, "ENDPOINT_NOT_FOUND", f"No API found for '{path}'")

    def create_model(self, call: Call) -> Answer:
        asked = _read(messages.CreateRegisteredModelRequest(), call)
        if len(asked.name.split(".")) != 3:
            message = f"Model {asked.name!r}: specify all three levels in the form catalog.schema.x"
            raise _error(400, "INVALID_PARAMETER_VALUE", message)
        if asked.name in self.models:
            message = f"Registered model '{asked.name}' already exists."
            raise _error(400, "RESOURCE_ALREADY_EXISTS", message)
        self.models.add(asked.name)
        model = messages.RegisteredModel(name=asked.name)
        return _write(messages.CreateRegisteredModelResponse(registered_model=model))

    def get_model(self, call: Call) -> Answer:
        self._require_model(call.query["name"])
        model = messages.RegisteredModel(name=call.query["name"])
        return _write(messages.GetRegisteredModelResponse(registered_model=model))

    def create_version(self, call: Call) -> Answer:
        asked = _read(messages.CreateModelVersionRequest(), call)
        self._require_model(asked.name)
        for tag in asked.tags:
            _require_tag(tag.key, tag.value)
        number = 1 + sum(name == asked.name for name, _ in self.versions)
        version = messages.ModelVersion(
            name=asked.name, version=str(number), source=asked.source, run_id=asked.run_id,
            status=messages.PENDING_REGISTRATION, tags=asked.tags,
        )  # fmt: skip
        self.versions[asked.name, str(number)] = version
        return _write(messages.CreateModelVersionResponse(model_version=version))

    def finalize(self, call: Call) -> Answer:
        asked = _read(messages.FinalizeModelVersionRequest(), call)
        version = self._version(asked.name, asked.version)
        assert f"{_folder(asked.name, asked.version)}/MLmodel" in self.files
        version.status = messages.READY
        return _write(messages.FinalizeModelVersionResponse(model_version=version))

    def get_version(self, call: Call) -> Answer:
        version = self._version(call.query["name"], call.query["version"])
        return _write(messages.GetModelVersionResponse(model_version=version))

    def search(self, call: Call) -> Answer:
        """One condition; versions without tags and aliases, page by page."""
        condition = re.fullmatch(r"(name|run_id)\s*=\s*'([^']*)'", call.query.get("filter", ""))
        if not condition:
            message = f"Unsupported filter: {call.query.get('filter')}"
            raise _error(400, "INVALID_PARAMETER_VALUE", message)
        found = [one for one in self.versions.values()
                 if getattr(one, condition[1]) == condition[2]][::-1]  # fmt: skip
        start = int(call.query.get("page_token") or 0)
        page = [messages.ModelVersion.FromString(one.SerializeToString())
                for one in found[start : start + PAGE]]  # fmt: skip
        for one in page:
            one.ClearField("tags")
        following = start + PAGE
        token = str(following) if following < len(found) else None
        answer = messages.SearchModelVersionsResponse(model_versions=page, next_page_token=token)
        return _write(answer)

    def set_tag(self, call: Call) -> Answer:
        asked = _read(messages.SetModelVersionTagRequest(), call)
        _require_tag(asked.key, asked.value)
        tags = self._version(asked.name, asked.version).tags
        for tag in [tag for tag in tags if tag.key == asked.key]:
            tags.remove(tag)
        tags.add(key=asked.key, value=asked.value)
        return _write(messages.SetModelVersionTagResponse())

    def set_alias(self, call: Call) -> Answer:
        asked = _read(messages.SetRegisteredModelAliasRequest(), call)
        self._version(asked.name, asked.version)
        self.aliases[asked.name, asked.alias] = asked.version
        return _write(messages.SetRegisteredModelAliasResponse())

    def delete_alias(self, call: Call) -> Answer:
        asked = _read(messages.DeleteRegisteredModelAliasRequest(), call)
        self._require_model(asked.name)
        self.aliases.pop((asked.name, asked.alias), None)
        return _write(messages.DeleteRegisteredModelAliasResponse())

    def by_alias(self, call: Call) -> Answer:
        model, alias = call.query["name"], call.query["alias"]
        self._require_model(model)
        if (model, alias) not in self.aliases:
            raise _error(404, "RESOURCE_DOES_NOT_EXIST", f"Alias '{alias}' does not exist.")
        version = self._version(model, self.aliases[model, alias])
        return _write(messages.GetModelVersionByAliasResponse(model_version=version))

    def upload(self, call: Call, path: str) -> Answer:
        self.files[path] = call.content
        return Answer(204)

    def download(self, call: Call, path: str) -> Answer:
        return Answer(200, self.files[path])

    def directory(self, call: Call, path: str) -> Answer:
        is_there = any(file.startswith(f"{path.rstrip('/')}/") for file in self.files)
        return Answer(200 if is_there else 404)

    def entries(self, call: Call, path: str) -> Answer:
        folder = f"{path.rstrip('/')}/"
        below = {file.removeprefix(folder).split("/")[0]: "/" in file.removeprefix(folder)
                 for file in self.files if file.startswith(folder)}  # fmt: skip
        contents = [{"path": f"/Models/{folder}{name}", "name": name, "is_directory": is_folder}
                    for name, is_folder in below.items()]  # fmt: skip
        return Answer(200, {"contents": contents})

    def forward(self, call: Call, method: str, path: str) -> Answer:
        """Databricks' tracking server is MLflow's, but for the names of experiments."""
        if path.endswith("experiments/create") and not call.body["name"].startswith("/"):
            message = (f"Got an invalid experiment name '{call.body['name']}'. An experiment name "
                       "must be an absolute path within the Databricks workspace")  # fmt: skip
            raise _error(400, "INVALID_PARAMETER_VALUE", message)
        response = self.tracking.open(
            path, method=method, query_string=call.query, data=call.content,
            content_type="application/json",
        )  # fmt: skip
        return Answer(response.status_code, response.json)

    def _require_model(self, name: str) -> None:
        if name not in self.models:
            message = f"Registered model '{name}' does not exist."
            raise _error(404, "RESOURCE_DOES_NOT_EXIST", message)

    def _version(self, name: str, version: str) -> Any:
        self._require_model(name)
        if (name, version) not in self.versions:
            message = f"Model version '{name}' version {version} does not exist."
            raise _error(404, "RESOURCE_DOES_NOT_EXIST", message)
        return self.versions[name, version]


def _folder(model: str, version: str) -> str:
    return f"{model.replace('.', '/')}/{version}"


def _require_tag(key: str, value: str) -> None:
    if RESERVED.search(key):
        message = f"Tag name {key} contains one or more of the reserved characters"
        raise _error(400, "INVALID_PARAMETER_VALUE", message)
    if len(value) > LONGEST_VALUE:
        raise _error(400, "INVALID_PARAMETER_VALUE", f"Tag {key}: its value is too long")


def _read(message: Any, call: Call) -> Any:
    parse_dict(call.body if call.content else call.query, message)
    return message


def _write(message: Any) -> Answer:
    return Answer(200, json.loads(message_to_json(message)))


def _error(status: int, code: str, message: str) -> Answer:
    return Answer(status, {"error_code": code, "message": message})
