"""Azure ML that runs here: the parts of its REST API that deployments need, with their delays.

Resources keep what is put; changes take a few requests' time and are told by
`Azure-AsyncOperation` or `Location`; meanwhile others are refused with 409. What is deployed
really loads the bytes that were uploaded, and scores with them. Managed identity, blob store and
Azure Monitor stand on the same port.
"""

from __future__ import annotations

import base64
import hashlib
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from mlops.contract import bundle
from tests.mlops.deploy.cloud import Answer, Call, Cloud

GROUP = "/subscriptions/0/resourceGroups/group/providers/Microsoft.MachineLearningServices"
WORKSPACE = f"{GROUP}/workspaces/work"
ASKED = {"https://management.azure.com": "for-arm", "https://storage.azure.com": "for-storage"}
_W = WORKSPACE.replace(".", r"\.")
_KIND = r"(?:onlineEndpoints|batchEndpoints)"


class Azure(Cloud):
    """A subscription with one workspace; `polls` is how many requests a change takes."""

    routes = (
        (r"GET /msi/token", "token"),
        (rf"GET {_W}", "workspace"),
        (rf"GET {_W}/datastores/workspaceblobstore", "datastore"),
        (r"PUT /container/(.+)", "upload"),
        (rf"GET ({_W}/.+/providers/Microsoft\.Insights/metrics)", "metrics"),
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

    def __init__(self, polls: int = 2) -> None:
        super().__init__()
        self.polls = polls
        self.resources: dict[str, Any] = {}
        self.blobs: dict[str, bytes] = {}
        self.running: dict[str, bundle.Scorer] = {}
        self.under_way: dict[int, list[Any]] = {}
        self.ended: dict[int, dict[str, Any]] = {}
        # What the next deployment fails with, hours after it was accepted.
        self.failure: dict[str, str] | None = None
        self.measured: dict[tuple[str, str], list[Any]] = {}

    def environment(self) -> dict[str, str]:
        """What a process needs to work in this subscription."""
        return {
            "AZUREML_ARM_SUBSCRIPTION": "0",
            "AZUREML_ARM_RESOURCEGROUP": "group",
            "AZUREML_ARM_WORKSPACE_NAME": "work",
            "AZURE_RESOURCE_MANAGER_URL": self.url,
            "IDENTITY_ENDPOINT": f"{self.url}/msi/token",
            "IDENTITY_HEADER": "here",
            "AZURE_TOKEN_CREDENTIALS": "managedidentitycredential",
            # The store has a host name of its own, which only this server knows.
            "HTTP_PROXY": self.url,
            "http_proxy": self.url,
            "NO_PROXY": "127.0.0.1",
            "no_proxy": "127.0.0.1",
            "MLOPS_SERVING_IMAGE": f"registry.example/mlops-serving@sha256:{'a' * 64}",
        }

    def traffic(self, endpoint: str) -> dict[str, int]:
        return self.resources[f"{WORKSPACE}/onlineEndpoints/{endpoint}"]["properties"]["traffic"]

    def tick(self) -> None:
        for number, entry in list(self.under_way.items()):
            entry[0] -= 1
            if entry[0] <= 0:
                del self.under_way[number]
                self.ended[number] = entry[2]() or {"status": "Succeeded"}

    def denied(self, path: str, call: Call) -> Answer | None:
        if path.startswith(("/msi/", "/score/")):
            return None
        audience = "for-storage" if path.startswith("/container/") else "for-arm"
        if call.headers.get("Authorization") == f"Bearer {audience}":
            return None
        return _error(401, "AuthenticationFailed", "Authentication failed.")

    def missing(self, path: str) -> Answer:
        return _error(404, "ResourceNotFound", f"The Resource '{path}' was not found.")

    def token(self, call: Call) -> Answer:
        said = {"access_token": ASKED[call.query["resource"]], "expires_on": "4102444800"}
        return Answer(200, said | {"resource": call.query["resource"], "token_type": "Bearer"})

    def workspace(self, call: Call) -> Answer:
        return Answer(200, {"id": WORKSPACE, "name": "work", "location": "westeurope"})

    def datastore(self, call: Call) -> Answer:
        said = {"datastoreType": "AzureBlob", "accountName": "account", "protocol": "http",
                "containerName": "container", "endpoint": "core.windows.test"}  # fmt: skip
        return Answer(200, {"properties": said})

    def upload(self, call: Call, name: str) -> Answer:
        checked = base64.b64encode(hashlib.md5(call.content).digest()).decode()
        if call.headers["x-ms-blob-type"] != "BlockBlob" or call.headers["Content-MD5"] != checked:
            return Answer(400, "<Error><Code>Md5Mismatch</Code></Error>")
        self.blobs[name] = call.content
        return Answer(201)

    def get(self, call: Call, path: str) -> Answer:
        if path not in self.resources:
            return self.missing(path)
        return Answer(200, self.resources[path])

    def deployments(self, call: Call, path: str) -> Answer:
        """One to a page, so that every list has pages."""
        if path.rpartition("/")[0] not in self.resources:
            return self.missing(path)
        # What is removed meanwhile must not hide the next one.
        last = call.query.get("$skipToken", "")
        places = sorted(p for p in self.resources if p.startswith(f"{path}/") and p > last)
        page: dict[str, Any] = {"value": [self.resources[place] for place in places[:1]]}
        if len(places) > 1:
            asked = f"api-version={call.query['api-version']}&$skipToken={places[0]}"
            page["nextLink"] = f"{self.url}{path}?{asked}"
        return Answer(200, page)

    def asset(self, call: Call, path: str) -> Answer:
        known = self.resources.get(path)
        if known and known["properties"] != call.body["properties"]:
            return _error(400, "UserError", "Asset with this version exists; it can't be altered.")
        self.resources[path] = {"id": path, **call.body}
        return Answer(200 if known else 201, self.resources[path])

    def put_endpoint(self, call: Call, path: str) -> Answer:
        self._require_free(path)
        wanted = call.body
        self._require_sound(path, wanted["properties"])
        known = self.resources.get(path)
        wanted["properties"].setdefault("traffic", {})
        wanted["properties"]["scoringUri"] = f"{self.url}/score/{path.rpartition('/')[2]}"
        return self._changed(path, wanted, "Updating" if known else "Creating")

    def put_deployment(self, call: Call, endpoint: str, name: str) -> Answer:
        self._require_free(endpoint)
        path = f"{endpoint}/deployments/{name}"
        self._require_free(path)
        if endpoint not in self.resources:
            return self.missing(endpoint)
        model = call.body["properties"]["model"]
        online = "/onlineEndpoints/" in endpoint
        for place in [model, call.body["properties"]["environmentId"]] if online else []:
            if place not in self.resources:
                return _error(400, "UserError", f"{place} does not exist.")
        failure, self.failure = self.failure, None

        def started() -> dict[str, Any] | None:
            if failure:
                self.resources[path]["properties"]["provisioningState"] = "Failed"
                return {"status": "Failed", "error": failure}
            if online:
                self.running[path] = self._mounted(model)
            return None

        return self._changed(path, call.body, "Creating", started)

    def delete(self, call: Call, path: str) -> Answer:
        if path not in self.resources:
            return Answer(204)
        self._require_free(path)
        endpoint, below, name = path.partition("/deployments/")
        if below and self.resources[endpoint]["properties"].get("traffic", {}).get(name):
            return _error(400, "UserError", f"Deployment {name} still has traffic.")

        def gone() -> None:
            for place in [p for p in self.resources if p == path or p.startswith(f"{path}/")]:
                del self.resources[place]
                self.running.pop(place, None)

        self.resources[path]["properties"]["provisioningState"] = "Deleting"
        number = self._begin(path, gone)
        place = f"{self.url}{WORKSPACE}/results/{number}?api-version=2099-01-01"
        return Answer(202, Location=place, Retry_After="0")

    def operation(self, call: Call, number: str) -> Answer:
        assert call.query["api-version"] == "2099-01-01"
        said = self.ended.get(int(number), {"status": "InProgress"})
        return Answer(200, said, Retry_After="0")

    def result(self, call: Call, number: str) -> Answer:
        return Answer(204) if int(number) in self.ended else Answer(202, Retry_After="0")

    def keys(self, call: Call, endpoint: str) -> Answer:
        return Answer(200, {"primaryKey": "the-key", "secondaryKey": "another"})

    def score(self, call: Call, endpoint: str) -> Answer:
        if call.headers["Authorization"] != "Bearer the-key":
            return Answer(401, {"error": {"message": "key_auth_access_denied"}})
        name = call.headers["azureml-model-deployment"]
        scorer = self.running.get(f"{WORKSPACE}/onlineEndpoints/{endpoint}/deployments/{name}")
        if scorer is None:
            return Answer(404, {"error": {"message": "no such deployment"}})
        said = scorer.predict(pd.DataFrame(call.body["dataframe_records"]))
        rows = [{scorer.card.outputs[0]: value} for value in said.tolist()]
        return Answer(200, {"predictions": rows}, x_model_digest=getattr(scorer, "digest"))  # noqa: B009

    def metrics(self, call: Call, path: str) -> Answer:
        name = path.partition("/providers/Microsoft.Insights")[0].rpartition("/")[2]
        series = self.measured.get((name, call.query["metricnames"]), [])
        return Answer(200, {"value": [{"timeseries": series}]})

    def _mounted(self, model: str) -> bundle.Scorer:
        uri = self.resources[model]["properties"]["modelUri"]
        folder = uri.partition("/paths/")[2] + "/"
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
                raise _error(400, "UserError", f"Traffic names {name}, which does not exist.")
        if sum(traffic.values()) not in (0, 100):
            raise _error(400, "UserError", "The sum of traffic must be 0 or 100.")
        if len(mirror) > 1 or any(v > 50 or traffic.get(k) for k, v in mirror.items()):
            raise _error(400, "UserError", "Mirror traffic: one deployment without traffic, 50 %.")

    def _require_free(self, path: str) -> None:
        for _, place, _ in self.under_way.values():
            if place == path or place.startswith(f"{path}/"):
                raise _error(409, "Conflict", "There is an operation under way already.")

    def _changed(self, path: str, content: Any, state: str, end: Any = None) -> Answer:
        fresh = path not in self.resources
        made = {"createdAt": "2026-11-20T10:00:00Z"}
        content["properties"]["provisioningState"] = state
        self.resources[path] = {
            "id": path, "name": path.rpartition("/")[2], "systemData": made, **content
        }  # fmt: skip

        def done() -> dict[str, Any] | None:
            self.resources[path]["properties"]["provisioningState"] = "Succeeded"
            return end() if end else None

        number = self._begin(path, done)
        place = f"{self.url}{WORKSPACE}/operations/{number}?api-version=2099-01-01"
        return Answer(201 if fresh else 200, self.resources[path],
                      Azure_AsyncOperation=place, Retry_After="0")  # fmt: skip

    def _begin(self, path: str, end: Callable[[], Any]) -> int:
        number = len(self.ended) + len(self.under_way) + 1
        self.under_way[number] = [self.polls, path, end]
        return number


def _error(status: int, code: str, message: str) -> Answer:
    return Answer(status, {"error": {"code": code, "message": message, "details": []}})
