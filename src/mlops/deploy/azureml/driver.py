"""Drive Azure ML's SDK: a request per line of standard input, an answer per line of output.

    python driver.py SUBSCRIPTION GROUP WORKSPACE

Run by a Python that has infra/azureml/requirements.lock, which conflicts with the project's own
lock; imports nothing of `mlops`. A request is {"operation": NAME, ...its arguments}, NAME one of
the methods of `Session`; a `kind` is the name of an attribute of `MLClient`. The answer is
{"result": ...}, or {"error": one line, "status": HTTP's status, 0 without one}.
"""

from __future__ import annotations

import io
import json
import os
import re
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cache
from typing import Any

from azure.core.exceptions import (
    ClientAuthenticationError,
    HttpResponseError,
    ResourceNotFoundError,
)

# What is told of a resource, where it has it.
FIELDS = ("id", "name", "properties", "tags", "traffic", "mirror_traffic", "scoring_uri",
          "provisioning_state")  # fmt: skip
MODEL = r"/models/(?P<name>[^/]+)/versions/(?P<version>[^/]+)$"
ENDED = ("succeeded", "failed", "canceled")
# Seconds between two looks where Azure asks for none, and until a look is the last one.
PAUSE, LONGEST = 5.0, 3600.0
# How often a change waits for another one that is under way.
TURNS = 5
LATE = f"still under way after {LONGEST / 60:.0f} min; run it again, it goes on from there"


class Session:
    """Operations on the resources of one workspace; each may be repeated."""

    def __init__(self, subscription: str, group: str, workspace: str) -> None:
        from azure.ai.ml import MLClient  # type: ignore[import-untyped]
        from azure.identity import DefaultAzureCredential
        from azure.mgmt.monitor import MonitorManagementClient  # type: ignore[import-untyped]

        credential = DefaultAzureCredential()
        # Only with its progress bar does the SDK notice that an upload failed.
        self._client = MLClient(
            credential, subscription, group, workspace, show_progress=True, enable_telemetry=False
        )
        self._monitor = MonitorManagementClient(credential, subscription)

    def check(self, kind: str, spec: Any) -> None:
        """Raise unless the SDK accepts a specification."""
        _load(kind, spec)

    def create(self, kind: str, spec: Any) -> bool:
        """Have what is specified, ready; whether that was not so before.

        Raises ValueError when there is one with other properties, which never change.
        """
        place = {key: spec[key] for key in ("name", "version", "endpoint_name") if key in spec}
        found = self._find(kind, place)
        for key, value in (spec.get("properties") or {}).items() if found else ():
            if found.properties.get(key) != value:
                raise ValueError(f"{key}: found {found.properties.get(key)!r}, expected {value!r}")
        state = _state(found)
        # Writing an endpoint that is being changed would take back that change.
        if found and (state == ENDED[0] or not kind.endswith("deployments")):
            return False
        # A failed one keeps what it failed with.
        if found and state == "failed":
            self.delete(kind, **place)
        self._write(kind, _load(kind, spec))
        return True

    def update(self, kind: str, name: str, fields: Mapping[str, Any]) -> None:
        """Write fields of an endpoint, where it exists and they differ; 0 is the same as none."""
        endpoint = self._find(kind, {"name": name})
        if endpoint and any(_set(getattr(endpoint, key)) != _set(fields[key]) for key in fields):
            for key, value in fields.items():
                setattr(endpoint, key, value)
            self._write(kind, endpoint)

    def delete(self, kind: str, **place: str) -> None:
        """Have no such resource."""
        begin = getattr(self._client, kind).begin_delete
        with suppress(ResourceNotFoundError):
            endpoint = place.get("endpoint_name") or place["name"]
            self._change(kind, endpoint, lambda: begin(**place))

    def state(self, endpoint: str) -> dict[str, Any] | None:
        """An online endpoint and its deployments with their models, None where there is none."""
        found = self._find("online_endpoints", {"name": endpoint})
        if found is None:
            return None
        deployments = []
        for deployment in self._client.online_deployments.list(endpoint):
            place = re.search(MODEL, str(deployment.model))
            model = self._find("models", place.groupdict()) if place else None
            created = getattr(deployment.creation_context, "created_at", None)
            deployments.append(_fields(deployment) | {
                "model": model and _fields(model), "created": created and created.isoformat(),
            })  # fmt: skip
        return _fields(found) | {"deployments": deployments}

    def access(self, endpoint: str) -> dict[str, str]:
        """Where an online endpoint scores, and the key that it wants."""
        endpoints = self._client.online_endpoints
        keys = endpoints.get_keys(endpoint)
        key = getattr(keys, "primary_key", None) or keys.access_token
        return {"url": endpoints.get(endpoint).scoring_uri, "key": key}

    def metrics(self, resource: str, **query: str) -> list[tuple[str, list[float]]]:
        """A metric's averages of each interval, by the value of its dimension."""
        response = self._monitor.metrics.list(resource, **query)
        return [
            ("".join(one.value for one in series.metadatavalues or []),
             [point.average or 0.0 for point in series.data])
            for metric in response.value for series in metric.timeseries
        ]  # fmt: skip

    def _find(self, kind: str, place: Mapping[str, str]) -> Any:
        with suppress(ResourceNotFoundError):
            return getattr(self._client, kind).get(**place)
        return None

    def _write(self, kind: str, entity: Any) -> None:
        operations = getattr(self._client, kind)
        # An asset is there at once, endpoints and deployments take minutes.
        if not hasattr(operations, "begin_create_or_update"):
            operations.create_or_update(entity)
            return
        endpoint = getattr(entity, "endpoint_name", None) or entity.name
        self._change(kind, endpoint, lambda: operations.begin_create_or_update(entity))

    def _change(self, kind: str, endpoint: str, begin: Callable[[], Any]) -> None:
        """Begin a change and wait for its end; first for another one that is under way."""
        deadline, turns = time.monotonic() + LONGEST, TURNS
        while time.monotonic() < deadline:
            try:
                poller = begin()
                poller.wait(LONGEST)
                if not poller.done():
                    break
                return
            except HttpResponseError as error:
                if error.status_code != 409 or not turns:
                    raise
                asked = getattr(error.response, "headers", {}).get("Retry-After", "")
                time.sleep(float(asked) if asked.isdigit() else PAUSE)
            turns -= self._is_settled(kind.partition("_")[0], endpoint)
        raise TimeoutError(LATE)

    def _is_settled(self, family: str, endpoint: str) -> bool:
        """Whether no change of an endpoint or of one of its deployments is under way."""
        found = [self._find(f"{family}_endpoints", {"name": endpoint})]
        if found != [None]:
            found += getattr(self._client, f"{family}_deployments").list(endpoint)
        return found == [None] or all(_state(one) in ENDED for one in found)


def _load(kind: str, spec: Any) -> Any:
    from azure.ai import ml  # type: ignore[import-untyped]

    return getattr(ml, f"load_{kind.removesuffix('s')}")(io.StringIO(json.dumps(spec)))


def _fields(resource: Any) -> dict[str, Any]:
    return {name: getattr(resource, name, None) for name in FIELDS}


def _state(resource: Any) -> str:
    state = getattr(resource, "provisioning_state", None) or ENDED[0]
    return str(getattr(state, "value", state)).lower()


def _set(values: Mapping[str, Any] | None) -> dict[str, Any]:
    return {key: value for key, value in (values or {}).items() if value}


def _reason(error: Exception) -> str:
    """What is wrong in Azure's own words: of an error within errors, the innermost."""
    detail, reason = getattr(error, "error", None), str(getattr(error, "message", "") or error)
    while detail is not None and getattr(detail, "code", None):
        reason = f"{detail.code}: {detail.message}"
        detail = next(iter(detail.details or []), None)
    # The SDK's schemas add advice to what they refuse.
    return " ".join(reason.partition("Visit this link")[0].split())


@cache
def _session() -> Session:
    return Session(*sys.argv[1:])


def _answer(request: dict[str, Any]) -> dict[str, Any]:
    try:
        return {"result": getattr(_session(), request.pop("operation"))(**request)}
    except Exception as error:
        not_signed_in = 401 if isinstance(error, ClientAuthenticationError) else 0
        status = getattr(error, "status_code", None) or not_signed_in
        return {"error": _reason(error), "status": status}


def main() -> None:
    """Answer until the input ends."""
    # What the SDK prints is not an answer.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    for line in sys.stdin:
        answers.write(json.dumps(_answer(json.loads(line)), default=str) + "\n")


if __name__ == "__main__":
    main()
