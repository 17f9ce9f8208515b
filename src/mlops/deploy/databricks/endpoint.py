"""A Model Serving endpoint through Databricks' SDK: changed as a whole, and waited for.

https://databricks-sdk-py.readthedocs.io/en/latest/workspace/serving/serving_endpoints.html
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING, Any

from mlops.base.errors import UserError, one_line

if TYPE_CHECKING:
    from databricks.sdk import WorkspaceClient
    from databricks.sdk.service import serving

# Seconds that the SDK goes on sending a request again, and waits for a response.
RETRY_SECONDS, RESPONSE_SECONDS = 60, 30
LONGEST_CHANGE = timedelta(hours=1)
# As MLflow's client asks Unity Catalog's registry: the SDK has no call for a version's tags.
VERSIONS = "/api/2.0/mlflow/unity-catalog/model-versions/get"
ENTITIES = (
    "SELECT DISTINCT served_entity_id FROM system.serving.served_entities"
    " WHERE served_entity_name = :name"
)
VIEW, MANAGE, QUERY = (
    f"CAN {right} on the serving endpoint" for right in ("VIEW", "MANAGE", "QUERY")
)


@dataclass(frozen=True)
class Served:
    """An endpoint as it is: entities and their percentages by the entity's name, and its tags."""

    entities: dict[str, serving.ServedEntityOutput]
    shares: dict[str, int]
    tags: dict[str, str]


@cache
def client() -> WorkspaceClient:
    """The workspace and whoever runs this, as all of Databricks' tools find them."""
    from databricks.sdk import WorkspaceClient
    from databricks.sdk.core import Config

    try:
        return WorkspaceClient(config=Config(
            retry_timeout_seconds=RETRY_SECONDS, http_timeout_seconds=RESPONSE_SECONDS
        ))  # fmt: skip
    except ValueError as error:
        raise UserError(
            "DATABRICKS_HOST: found nobody signed in, expected DATABRICKS_HOST and "
            f"DATABRICKS_TOKEN, or a profile ({one_line(error)})"
        ) from None


def find(name: str) -> Served:
    """The endpoint once no change is under way; without one it has no entities."""
    with one_line_errors(f"find the endpoint {name}", VIEW):
        endpoint = _settled(name)
    config = endpoint and endpoint.config
    traffic = config and config.traffic_config
    return Served(
        {str(entity.name): entity for entity in (config and config.served_entities) or []},
        {str(route.served_entity_name or route.served_model_name): route.traffic_percentage
         for route in (traffic and traffic.routes) or []},
        {tag.key: tag.value or "" for tag in (endpoint and endpoint.tags) or []},
    )  # fmt: skip


def create(name: str, entity: serving.ServedEntityInput) -> None:
    """Make an endpoint with one entity, which answers everything, and wait until it does."""
    from databricks.sdk.errors import ResourceConflict
    from databricks.sdk.service.serving import EndpointCoreConfigInput

    operation = f"create the endpoint {name}"
    traffic = _traffic({str(entity.name): 100})
    config = EndpointCoreConfigInput(name, served_entities=[entity], traffic_config=traffic)
    with one_line_errors(operation, "to create serving endpoints"):
        # It exists when the response to an earlier attempt was lost.
        with suppress(ResourceConflict):
            client().serving_endpoints.create(name, config=config)
        _require_success(name, operation)


def change(
    name: str, entities: Mapping[str, serving.ServedEntityInput | serving.ServedEntityOutput],
    shares: Mapping[str, int], operation: str,
) -> None:  # fmt: skip
    """Serve these entities with these percentages, and wait until the endpoint does.

    Raises UserError when the change fails; the endpoint then serves what it did before.
    """
    from databricks.sdk.service.serving import ServedEntityInput

    inputs = [ServedEntityInput.from_dict(entity.as_dict()) for entity in entities.values()]
    traffic = _traffic({entity: shares.get(entity, 0) for entity in entities})
    with one_line_errors(operation, MANAGE):
        endpoints = client().serving_endpoints
        endpoints.update_config(name, served_entities=inputs, traffic_config=traffic)
        _require_success(name, operation)


def tag(name: str, key: str, value: str) -> None:
    """Set one of the endpoint's tags; an empty value deletes it."""
    from databricks.sdk.service.serving import EndpointTag

    added, deleted = ([EndpointTag(key, value)], None) if value else (None, [key])
    with one_line_errors(f"write a note on the endpoint {name}", MANAGE):
        client().serving_endpoints.patch(name, add_tags=added, delete_tags=deleted)


def delete(name: str) -> None:
    """Delete the endpoint, where there is one."""
    from databricks.sdk.errors import NotFound

    with one_line_errors(f"remove the endpoint {name}", MANAGE), suppress(NotFound):
        client().serving_endpoints.delete(name)


def score(name: str, entity: str, rows: Any) -> Any:
    """The response of one served entity to rows, whatever its share."""
    path = f"/serving-endpoints/{name}/served-models/{entity}/invocations"
    with one_line_errors(f"ask {entity} behind {name}", QUERY):
        return client().api_client.do("POST", path, body={"dataframe_records": rows})


def metrics(name: str) -> str:
    """The endpoint's metrics of the last minute, in Prometheus' text form."""
    with one_line_errors(f"read the metrics of {name}", VIEW):
        contents = client().serving_endpoints.export_metrics(name).contents
        return contents.read().decode() if contents else ""


def tags_of(model: str, version: str) -> dict[str, str]:
    """The tags of a registered model's version."""
    with one_line_errors(f"read version {version} of {model}", "EXECUTE on the model"):
        query = {"name": model, "version": version}
        response: Any = client().api_client.do("GET", VERSIONS, query=query)
        return {tag["key"]: tag["value"] for tag in response["model_version"].get("tags") or []}


def entity_ids(name: str) -> set[str]:
    """The ids by which inference tables name the served entities of a name.

    They are in a system table alone, which the SQL warehouse DATABRICKS_WAREHOUSE_ID is asked for.
    https://docs.databricks.com/ai-gateway/configure-ai-gateway-endpoints (system.serving)
    """
    from databricks.sdk.service.sql import StatementParameterListItem, StatementState

    warehouse = os.environ.get("DATABRICKS_WAREHOUSE_ID", "")
    if not warehouse:
        raise UserError("DATABRICKS_WAREHOUSE_ID: not set; expected the SQL warehouse to ask for "
                        "system.serving.served_entities")  # fmt: skip
    operation = f"find the ids of {name}"
    with one_line_errors(operation, "SELECT on system.serving, CAN USE on the warehouse"):
        response = client().statement_execution.execute_statement(
            ENTITIES, warehouse, parameters=[StatementParameterListItem("name", value=name)],
            wait_timeout="50s",
        )  # fmt: skip
    status = response.status
    if not status or status.state is not StatementState.SUCCEEDED:
        reason = status and ((status.error and status.error.message) or status.state)
        raise UserError(f"Databricks: could not {operation}: {one_line(str(reason))}")
    rows = response.result.data_array if response.result else None
    return {row[0] for row in rows or []}


def _settled(name: str) -> serving.ServingEndpointDetailed | None:
    """The endpoint once no change is under way, successful or not; None when there is none."""
    from databricks.sdk.errors import NotFound, OperationFailed

    states: list[serving.ServingEndpointDetailed] = []
    try:
        return client().serving_endpoints.wait_get_serving_endpoint_not_updating(
            name, LONGEST_CHANGE, states.append
        )
    except NotFound:
        return None
    except OperationFailed:
        return states[-1]


def _require_success(name: str, operation: str) -> None:
    """Wait for the end of a change; raise UserError, with Databricks' reason, when it failed."""
    endpoint = _settled(name)
    update = endpoint and endpoint.state and endpoint.state.config_update
    if not endpoint or not update or update.value == "NOT_UPDATING":
        return
    config = endpoint.pending_config or endpoint.config
    states = [entity.state for entity in (config and config.served_entities) or [] if entity.state]
    reasons = [state.deployment_state_message or "" for state in states
               if state.deployment and "FAILED" in state.deployment.value]  # fmt: skip
    reason = one_line("; ".join(reasons)) or update.value
    raise UserError(f"Databricks: could not {operation}: {reason}")


def _traffic(shares: Mapping[str, int]) -> serving.TrafficConfig:
    from databricks.sdk.service.serving import Route, TrafficConfig

    return TrafficConfig([Route(share, served_model_name=name) for name, share in shares.items()])


@contextmanager
def one_line_errors(operation: str, permission: str) -> Iterator[None]:
    """Turn what Databricks refuses, or does not answer, into one line."""
    from databricks.sdk.errors import PermissionDenied, Unauthenticated

    try:
        yield
    # All errors of the SDK and of requests.
    except OSError as error:
        # The cause is that of the last retry; a change that takes too long has none.
        cause = error.__cause__ if isinstance(error, TimeoutError) else None
        reason = one_line(cause or error)
        line = f"Databricks: could not {operation}: {reason}"
        if isinstance(error, Unauthenticated):
            line = f"DATABRICKS_TOKEN: Databricks does not accept it ({reason})"
        elif isinstance(error, PermissionDenied):
            line = (
                f"Databricks: may not {operation} ({reason}); whoever runs this needs {permission}"
            )
        elif isinstance(error, TimeoutError):
            line += "; run it again, it goes on from there"
        raise UserError(line) from None
