"""Azure ML's YAML as its REST API wants it: the same specification, other names and units.

https://learn.microsoft.com/azure/machine-learning/reference-yaml-deployment-managed-online
https://learn.microsoft.com/rest/api/azureml/online-deployments/create-or-update
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mlops.base.errors import UserError, nearest
from mlops.deploy.azureml.workspace import FOLDER, Workspace

Spec = Mapping[str, Any]
Convert = Callable[[Any], Any]


def endpoint(spec: Spec, location: str) -> dict[str, Any]:
    """An online endpoint, without traffic."""
    known: dict[str, tuple[str, Convert]] = {
        "auth_mode": ("authMode", _auth),
        "description": ("description", str),
        "public_network_access": ("publicNetworkAccess", _camel),
    }
    properties = _converted(spec, known, "endpoint.yaml")
    return _resource(spec, properties, location) | {"identity": {"type": "SystemAssigned"}}


def deployment(spec: Spec, workspace: Workspace, location: str) -> dict[str, Any]:
    """A managed online deployment."""
    known: dict[str, tuple[str, Convert]] = {
        "model": ("model", lambda named: workspace.asset("models", named)),
        "environment": ("environmentId", lambda named: workspace.asset("environments", named)),
        "instance_type": ("instanceType", str),
        "environment_variables": ("environmentVariables", dict),
        "app_insights_enabled": ("appInsightsEnabled", bool),
        "egress_public_network_access": ("egressPublicNetworkAccess", _camel),
        "request_settings": ("requestSettings", _requests),
        "liveness_probe": ("livenessProbe", _probe),
        "readiness_probe": ("readinessProbe", _probe),
        "properties": ("properties", dict),
    }
    properties = _converted(spec, known, "deployment.yaml", "instance_count", "endpoint_name")
    sku = {"name": "Default", "capacity": spec["instance_count"]}
    kind = {"endpointComputeType": "Managed"}
    return _resource(spec, properties | kind, location) | {"sku": sku}


def batch_endpoint(spec: Spec, location: str) -> dict[str, Any]:
    """A batch endpoint, without a default."""
    known: dict[str, tuple[str, Convert]] = {
        "auth_mode": ("authMode", _auth),
        "description": ("description", str),
    }
    return _resource(spec, _converted(spec, known, "batch-endpoint.yaml"), location)


def batch_deployment(spec: Spec, workspace: Workspace, location: str) -> dict[str, Any]:
    """A batch deployment of a registered MLflow model."""
    known: dict[str, tuple[str, Convert]] = {
        "model": ("model", lambda named: _reference(workspace.asset("models", named))),
        "compute": ("compute", lambda named: _compute(workspace, named)),
        "resources": ("resources", lambda told: {"instanceCount": told["instance_count"]}),
        "description": ("description", str),
        "properties": ("properties", dict),
    }
    properties = _converted(
        spec, known, "batch-deployment.yaml", "endpoint_name", "type", "settings"
    )
    settings: dict[str, tuple[str, Convert]] = {
        "mini_batch_size": ("miniBatchSize", int),
        "max_concurrency_per_instance": ("maxConcurrencyPerInstance", int),
        "output_action": ("outputAction", _camel),
        "output_file_name": ("outputFileName", str),
        "error_threshold": ("errorThreshold", int),
        "logging_level": ("loggingLevel", _camel),
        "retry_settings": ("retrySettings", _retries),
    }
    told = spec.get("settings") or {}
    return _resource(
        spec, properties | _converted(told, settings, "batch-deployment.yaml"), location
    )


def _converted(
    spec: Spec, known: Mapping[str, tuple[str, Convert]], file: str, *apart: str
) -> dict[str, Any]:
    """The keys that are known; an unknown one would be a wish that nobody grants."""
    for key in spec:
        if key not in known and key not in ("$schema", "name", "tags", *apart):
            raise UserError(f"{FOLDER / file}: {key}: unknown key{nearest(key, known)}")
    return {known[key][0]: known[key][1](spec[key]) for key in spec if key in known}


def _resource(spec: Spec, properties: dict[str, Any], location: str) -> dict[str, Any]:
    return {"location": location, "tags": dict(spec.get("tags") or {}), "properties": properties}


def _requests(spec: Spec) -> dict[str, Any]:
    known: dict[str, tuple[str, Convert]] = {
        "request_timeout_ms": ("requestTimeout", lambda value: _duration(value / 1000)),
        "max_concurrent_requests_per_instance": ("maxConcurrentRequestsPerInstance", int),
    }
    return _converted(spec, known, "deployment.yaml")


def _probe(spec: Spec) -> dict[str, Any]:
    known: dict[str, tuple[str, Convert]] = {
        "initial_delay": ("initialDelay", _duration),
        "period": ("period", _duration),
        "timeout": ("timeout", _duration),
        "success_threshold": ("successThreshold", int),
        "failure_threshold": ("failureThreshold", int),
    }
    return _converted(spec, known, "deployment.yaml")


def _retries(spec: Spec) -> dict[str, Any]:
    known: dict[str, tuple[str, Convert]] = {
        "max_retries": ("maxRetries", int),
        "timeout": ("timeout", _duration),
    }
    return _converted(spec, known, "batch-deployment.yaml")


def _duration(seconds: float) -> str:
    """Seconds as ISO 8601 has them."""
    minutes, rest = divmod(seconds, 60)
    return "PT" + (f"{minutes:g}M" if minutes else "") + (f"{rest:g}S" if rest else "")


def _camel(words: str) -> str:
    return "".join(word.capitalize() for word in words.split("_"))


def _auth(mode: str) -> str:
    return {"key": "Key", "aml_token": "AMLToken", "aad_token": "AADToken"}[mode]


def _reference(model: str) -> dict[str, str]:
    return {"referenceType": "Id", "assetId": model}


def _compute(workspace: Workspace, named: str) -> str:
    return workspace.path("computes", named.removeprefix("azureml:"))


def place(name: str) -> Path:
    """Where a specification lies, below the repository's root."""
    return FOLDER / f"{name}.yaml"
