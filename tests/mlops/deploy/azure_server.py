"""Azure ML's REST API as its SDK uses it: a stand-in that clients reach as their proxy.

Resources keep what is put. A change takes a few requests' time, reported by `Azure-AsyncOperation`
or `Location`; meanwhile other changes are refused with 409. A deployment loads the bytes that were
uploaded, and scores with them. Managed identity, blob store and Azure Monitor are here too.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from mlops.contract import bundle
from mlops.deploy.azureml import sdk
from tests import apart
from tests.conftest import REPOSITORY, Shared
from tests.mlops.deploy.cloud import Answer, Call, Cloud, certificate

HOSTS = ("management.azure.com", "account.blob.core.windows.net", "work.inference.ml.azure.com")
MANAGEMENT, STORAGE, SCORING = (f"https://{host}" for host in HOSTS)
WORKSPACE = (
    "/subscriptions/0/resourceGroups/group/providers/Microsoft.MachineLearningServices"
    "/workspaces/work"
)
_W = WORKSPACE.replace(".", r"\.")
_KIND = r"(?:onlineEndpoints|batchEndpoints)"
# Asks clients to look again at once.
SOON = {"retry_after_ms": "5"}
CREATED = {f"{what}{at}": value for what in ("created", "lastModified")
           for at, value in (("At", "2026-11-20T10:00:00Z"), ("By", "tests"))}  # fmt: skip


class Azure(Cloud):
    """A subscription with one workspace; `polls` is how many requests a change takes."""

    routes = (
        (r"GET /msi/token", "token"),
        (rf"GET {_W}", "workspace"),
        (rf"GET {_W}/datastores/workspaceblobstore", "datastore"),
        (r"HEAD /container/(.+)", "blob"),
        (r"PUT /container/(.+)", "upload"),
        (rf"GET ({_W}/.+)/providers/Microsoft\.Insights/metrics", "metrics"),
        (rf"GET {_W}/operations/(\d+)", "operation"),
        (rf"GET {_W}/results/(\d+)", "result"),
        (rf"GET ({_W}/{_KIND}/[^/]+/deployments)", "deployments"),
        (rf"GET ({_W}/.+)", "get"),
        (rf"POST {_W}/onlineEndpoints/([^/]+)/listKeys", "keys"),
        (rf"PUT ({_W}/(?:models|environments)/[^/]+/versions/[^/]+)", "asset"),
        (rf"PUT ({_W}/{_KIND}/[^/]+)", "put_endpoint"),
        (rf"PUT ({_W}/{_KIND}/[^/]+)/deployments/([^/]+)", "put_deployment"),
        (rf"DELETE ({_W}/{_KIND}/[^/]+(?:/deployments/[^/]+)?)", "delete"),
        (r"POST /score/([^/]+)", "score"),
    )

    def __init__(self, folder: Path, python: str) -> None:
        tls, self.certificate = certificate(folder, *HOSTS)
        super().__init__(tls)
        self.python = python
        self.reset()

    def reset(self, polls: int = 2) -> None:
        super().reset(polls)
        self.resources: dict[str, Any] = {}
        self.blobs: dict[str, bytes] = {}
        self.uploaded: set[str] = set()
        self.running: dict[str, bundle.Scorer] = {}
        # What became of each change, by its number.
        self.changes: list[dict[str, Any]] = []
        # What the next deployment fails with, after it was accepted.
        self.failure: dict[str, str] | None = None
        self.measured: dict[tuple[str, str], list[Any]] = {}

    def environment(self) -> dict[str, str]:
        """What a process needs to work in this subscription."""
        proxy = dict.fromkeys(("HTTPS_PROXY", "https_proxy"), self.url)
        return proxy | {
            sdk.PYTHON: self.python,
            "AZUREML_ARM_SUBSCRIPTION": "0",
            "AZUREML_ARM_RESOURCEGROUP": "group",
            "AZUREML_ARM_WORKSPACE_NAME": "work",
            "IDENTITY_ENDPOINT": f"{self.url}/msi/token",
            "IDENTITY_HEADER": "here",
            "AZURE_TOKEN_CREDENTIALS": "managedidentitycredential",
            "REQUESTS_CA_BUNDLE": str(self.certificate),
            "MLOPS_SERVING_IMAGE": f"registry.example/mlops-serving@sha256:{'a' * 64}",
        }

    def endpoint(self, name: str, kind: str = "onlineEndpoints") -> dict[str, Any]:
        """The properties of an endpoint."""
        found: dict[str, Any] = self.resources[f"{WORKSPACE}/{kind}/{name}"]["properties"]
        return found

    def missing(self, path: str) -> Answer:
        return error(404, "ResourceNotFound", f"The Resource '{path}' was not found.")

    def token(self, call: Call) -> Answer:
        token = {"access_token": "token", "token_type": "Bearer", "expires_on": "4102444800"}
        return Answer(200, token | {"resource": call.query["resource"]})

    def workspace(self, call: Call) -> Answer:
        return Answer(200, {"id": WORKSPACE, "name": "work", "location": "westeurope",
                            "properties": {}})  # fmt: skip

    def datastore(self, call: Call) -> Answer:
        properties = {"datastoreType": "AzureBlob", "accountName": "account",
                      "containerName": "container",
                      "credentials": {"credentialsType": "None"}}  # fmt: skip
        return Answer(200, {"id": f"{WORKSPACE}/datastores/workspaceblobstore",
                            "name": "workspaceblobstore", "properties": properties})  # fmt: skip

    def blob(self, call: Call, name: str) -> Answer:
        done = {"x_ms_meta_upload_status": "completed"} if name in self.uploaded else {}
        return Answer(200 if name in self.blobs else 404, None, **done)

    def upload(self, call: Call, name: str) -> Answer:
        if call.query.get("comp") == "metadata":
            self.uploaded.add(name)
            return Answer(200)
        self.blobs[name] = call.content
        return Answer(201)

    def get(self, call: Call, path: str) -> Answer:
        if path not in self.resources:
            return self.missing(path)
        return Answer(200, self.resources[path])

    def deployments(self, call: Call, path: str) -> Answer:
        if path.rpartition("/")[0] not in self.resources:
            return self.missing(path)
        below = [one for place, one in self.resources.items() if place.startswith(f"{path}/")]
        return Answer(200, {"value": below})

    def asset(self, call: Call, path: str) -> Answer:
        known, properties = self.resources.get(path), call.body["properties"]
        properties["flavors"] = properties.get("flavors") or {}
        if known and known["properties"] != properties:
            return error(400, "UserError", "Asset with this version exists; it can't be altered.")
        self.resources[path] = {"id": path, "name": path.rpartition("/")[2], **call.body}
        return Answer(200 if known else 201, self.resources[path])

    def put_endpoint(self, call: Call, path: str) -> Answer:
        self._require_free(path)
        self._require_sound(path, call.body["properties"])
        state = "Updating" if path in self.resources else "Creating"
        call.body["properties"].setdefault("traffic", {})
        call.body["properties"]["scoringUri"] = f"{SCORING}/score/{path.rpartition('/')[2]}"
        return self._changed(path, call.body, state)

    def put_deployment(self, call: Call, endpoint: str, name: str) -> Answer:
        self._require_free(endpoint)
        path = f"{endpoint}/deployments/{name}"
        if endpoint not in self.resources:
            return self.missing(endpoint)
        properties = call.body["properties"]
        online = "/onlineEndpoints/" in endpoint
        for place in (properties["model"], properties["environmentId"]) if online else ():
            if place not in self.resources:
                return error(400, "UserError", f"{place} does not exist.")
        properties["scaleSettings"] = {"scaleType": "Default"}
        failure, self.failure = self.failure, None

        def started() -> dict[str, Any] | None:
            if failure:
                self.resources[path]["properties"]["provisioningState"] = "Failed"
                return {"status": "Failed", "error": failure}
            if online:
                self.running[path] = self._mounted(properties["model"])
            return None

        return self._changed(path, call.body, "Creating", started)

    def delete(self, call: Call, path: str) -> Answer:
        if path not in self.resources:
            return Answer(204)
        self._require_free(path)
        endpoint, below, name = path.partition("/deployments/")
        if below and self.resources[endpoint]["properties"].get("traffic", {}).get(name):
            return error(400, "UserError", f"Deployment {name} still has traffic.")

        def gone() -> None:
            for place in [p for p in self.resources if p == path or p.startswith(f"{path}/")]:
                del self.resources[place]
                self.running.pop(place, None)

        self.resources[path]["properties"]["provisioningState"] = "Deleting"
        number = self._begin(path, gone)
        return Answer(202, Location=f"{MANAGEMENT}{WORKSPACE}/results/{number}", **SOON)

    def operation(self, call: Call, number: str) -> Answer:
        return Answer(200, self.changes[int(number)], **SOON)

    def result(self, call: Call, number: str) -> Answer:
        under_way = self.changes[int(number)]["status"] == "InProgress"
        return Answer(202, **SOON) if under_way else Answer(204)

    def keys(self, call: Call, endpoint: str) -> Answer:
        return Answer(200, {"primaryKey": "the-key", "secondaryKey": "another"})

    def score(self, call: Call, endpoint: str) -> Answer:
        if call.headers["Authorization"] != "Bearer the-key":
            return error(401, "AuthenticationFailed", "key_auth_access_denied")
        name = call.headers["azureml-model-deployment"]
        scorer = self.running.get(f"{WORKSPACE}/onlineEndpoints/{endpoint}/deployments/{name}")
        if scorer is None:
            return self.missing(name)
        scores = scorer.predict(pd.DataFrame(call.body["dataframe_records"]))
        rows = [{scorer.card.outputs[0]: value} for value in scores.tolist()]
        return Answer(200, {"predictions": rows}, x_model_digest=getattr(scorer, "digest"))  # noqa: B009

    def metrics(self, call: Call, resource: str) -> Answer:
        name = resource.rpartition("/")[2]
        series = self.measured.get((name, call.query["metricnames"]), [])
        return Answer(200, {"value": [{"timeseries": series}]})

    def _mounted(self, model: str) -> bundle.Scorer:
        uri = self.resources[model]["properties"]["modelUri"]
        folder = uri.partition("/paths/")[2].rstrip("/") + "/"
        place = Path(tempfile.mkdtemp())
        for name, content in self.blobs.items():
            if name.startswith(folder):
                (place / name.removeprefix(folder)).write_bytes(content)
        scorer = bundle.Scorer(place)
        scorer.digest = bundle.digest(place)  # type: ignore[attr-defined]
        return scorer

    def _require_sound(self, path: str, wanted: dict[str, Any]) -> None:
        traffic, mirror = wanted.get("traffic", {}), wanted.get("mirrorTraffic") or {}
        for name in (*traffic, *mirror):
            if f"{path}/deployments/{name}" not in self.resources:
                raise error(400, "UserError", f"Traffic names {name}, which does not exist.")
        if sum(traffic.values()) not in (0, 100):
            raise error(400, "UserError", "The sum of traffic must be 0 or 100.")
        if len(mirror) > 1 or any(v > 50 or traffic.get(k) for k, v in mirror.items()):
            raise error(400, "UserError", "Mirror traffic: one deployment without traffic, 50 %.")

    def _require_free(self, path: str) -> None:
        for _, place, _ in self.pending:
            if f"{place}/".startswith(f"{path}/") or f"{path}/".startswith(f"{place}/"):
                raise error(
                    409, "Conflict", "There is an operation under way already.", Retry_After="0"
                )

    def _changed(self, path: str, content: Any, state: str, end: Any = None) -> Answer:
        new = path not in self.resources
        content["properties"]["provisioningState"] = state
        self.resources[path] = {
            "id": path, "name": path.rpartition("/")[2], "systemData": CREATED, **content
        }  # fmt: skip

        def done() -> dict[str, Any] | None:
            self.resources[path]["properties"]["provisioningState"] = "Succeeded"
            return end() if end else None

        number = self._begin(path, done)
        place = f"{MANAGEMENT}{WORKSPACE}/operations/{number}"
        return Answer(201 if new else 200, self.resources[path], Azure_AsyncOperation=place, **SOON)

    def _begin(self, path: str, end: Callable[[], Any]) -> int:
        change = {"status": "InProgress"}
        self.changes.append(change)
        self.begin(path, lambda: change.update(end() or {"status": "Succeeded"}))
        return len(self.changes) - 1


def error(status: int, code: str, message: str, **headers: str) -> Answer:
    """An answer that refuses, in Azure's form."""
    content = {"error": {"code": code, "message": message, "details": []}}
    return Answer(status, content, **headers)


def sdk_python(shared: Shared) -> str:
    """The Python of an environment with Azure ML's SDK; skips without a network."""
    lock = REPOSITORY / sdk.LOCK
    folder = shared.folder("azureml", lambda folder: apart.environment(lock, folder))
    return str(folder / "bin/python")
