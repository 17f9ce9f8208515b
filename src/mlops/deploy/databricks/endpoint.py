"""A Databricks Model Serving endpoint over REST: what it serves, changed as a whole and waited for.

https://docs.databricks.com/api/workspace/servingendpoints
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

from mlops.base.errors import UserError
from mlops.base.faults import MOST_REASON, Patience
from mlops.base.http import Client, Denied, Doing, Site, Token, Uncertain
from mlops.forge.forge import given

if TYPE_CHECKING:
    from databricks.sdk.core import Config

HOST, TOKEN = "DATABRICKS_HOST", "DATABRICKS_TOKEN"
ENDPOINTS = "/api/2.0/serving-endpoints"
# As MLflow asks Unity Catalog's registry, for a version's tags.
VERSIONS = "/api/2.0/mlflow/unity-catalog/model-versions/get"
# Seconds between two looks, and until a look is the last one; how often another may come first.
PAUSE, LONGEST, TURNS = 10.0, 3600.0, 5
MANAGE = "CAN MANAGE on the serving endpoint"
# What an entity is made with; the rest of it is what Databricks says of it.
GIVEN = (
    "name", "entity_name", "entity_version", "workload_size", "workload_type",
    "scale_to_zero_enabled", "environment_vars", "instance_profile_arn",
    "min_provisioned_concurrency", "max_provisioned_concurrency",
)  # fmt: skip

Entity = dict[str, Any]


@dataclass(frozen=True)
class Served:
    """An endpoint as it is: entities and their percentages by name, and its tags."""

    entities: dict[str, Entity]
    shares: dict[str, int]
    tags: dict[str, str]


class Databricks(Client):
    """Sends requests to one workspace."""

    def text(self, path: str, doing: Doing) -> str:
        """The answer's text, where that is no JSON."""
        return self._answer("GET", path, doing, True, {}).text


@dataclass(frozen=True)
class Workspace:
    """A Databricks workspace's REST API."""

    client: Databricks = field(repr=False)
    url: str = ""

    def find(self, name: str) -> Served | None:
        """The endpoint's serving configuration, once no change is under way; None without one."""
        found = self._settled(name, Doing(f"find the endpoint {name}", "CAN VIEW on it"))
        if found is None:
            return None
        config = found.get("config") or {}
        routes = (config.get("traffic_config") or {}).get("routes") or []
        return Served(
            {entity["name"]: entity for entity in config.get("served_entities") or []},
            {_target(route): int(route["traffic_percentage"]) for route in routes},
            {tag["key"]: tag.get("value", "") for tag in found.get("tags") or []},
        )

    def create(self, name: str, entity: Entity) -> None:
        """Make an endpoint with one entity, which answers everything, and wait until it does."""
        doing = Doing(f"create the endpoint {name}", "to create serving endpoints")
        content = {"name": name, "config": _config({entity["name"]: entity}, {entity["name"]: 100})}
        try:
            self.client.send("POST", ENDPOINTS, doing, again=False, json=content)
        # Carried out or not, the next look shows.
        except Uncertain:
            pass
        except Denied as denied:
            if "already exists" not in denied.reason:
                raise
        self._ended(name, doing)

    def change(
        self, name: str, entities: Mapping[str, Entity], shares: Mapping[str, int], doing: Doing
    ) -> None:
        """Serve these entities with these percentages, and wait until it does.

        Raises UserError when Databricks ends it otherwise; it then serves what it served.
        """
        path, content = f"{ENDPOINTS}/{name}/config", _config(entities, shares)
        for turn in range(TURNS, -1, -1):
            try:
                self.client.send("PUT", path, doing, json=content)
                break
            except Denied as denied:
                # Another change is under way.
                if denied.status != 409 or not turn:
                    raise
            self._settled(name, doing)
        self._ended(name, doing)

    def tag(self, name: str, key: str, value: str) -> None:
        """Set one of the endpoint's tags, or take it away with an empty value."""
        doing = Doing(f"write a note on the endpoint {name}", MANAGE)
        content = {"add_tags": [{"key": key, "value": value}]} if value else {"delete_tags": [key]}
        self.client.send("PATCH", f"{ENDPOINTS}/{name}/tags", doing, json=content)

    def delete(self, name: str) -> None:
        """Have no such endpoint."""
        doing = Doing(f"remove the endpoint {name}", MANAGE)
        try:
            self.client.send("DELETE", f"{ENDPOINTS}/{name}", doing)
        except Denied as denied:
            if denied.status != 404:
                raise

    def score(self, name: str, entity: str, rows: Any) -> Any:
        """What one served entity answers, whatever its share."""
        doing = Doing(f"ask {entity} behind {name}", "CAN QUERY on the serving endpoint")
        path = f"/serving-endpoints/{name}/served-models/{entity}/invocations"
        return self.client.send("POST", path, doing, json={"dataframe_records": rows})

    def address(self, name: str) -> str:
        """Where an endpoint's clients ask."""
        return f"{self.url}/serving-endpoints/{name}/invocations"

    def metrics(self, name: str) -> str:
        """The endpoint's metrics of the last minute, in Prometheus' text form."""
        doing = Doing(f"read the metrics of {name}", "CAN VIEW on the serving endpoint")
        return self.client.text(f"{ENDPOINTS}/{name}/metrics", doing)

    def tags_of(self, model: str, version: str) -> dict[str, str]:
        """The tags of a registered model's version."""
        doing = Doing(f"read version {version} of {model}", "EXECUTE on the model")
        asked = {"name": model, "version": version}
        found = self.client.send("GET", VERSIONS, doing, params=asked)["model_version"]
        return {tag["key"]: tag["value"] for tag in found.get("tags") or []}

    def _settled(self, name: str, doing: Doing) -> Any | None:
        """The endpoint once nothing changes it; None when there is none."""
        deadline = time.monotonic() + LONGEST
        while True:
            try:
                found = self.client.send("GET", f"{ENDPOINTS}/{name}", doing)
            except Denied as denied:
                if denied.status == 404:
                    return None
                raise
            if (found.get("state") or {}).get("config_update") != "IN_PROGRESS":
                return found
            if time.monotonic() > deadline:
                raise UserError(
                    f"Databricks: could not {doing.text}: still under way after "
                    f"{LONGEST / 60:.0f} min; run it again, it goes on from there"
                )
            time.sleep(PAUSE)

    def _ended(self, name: str, doing: Doing) -> None:
        """Wait for a change's end; raises UserError, with the reason, unless that is good."""
        found = self._settled(name, doing) or {}
        if (found.get("state") or {}).get("config_update") in ("UPDATE_FAILED", "UPDATE_CANCELED"):
            pending = found.get("pending_config") or found.get("config") or {}
            states = [entity.get("state") or {} for entity in pending.get("served_entities") or []]
            said = [state.get("deployment_state_message") or "" for state in states
                    if "FAILED" in state.get("deployment", "")]  # fmt: skip
            reason = " ".join("; ".join(said).split())[:MOST_REASON]
            raise UserError(
                f"Databricks: could not {doing.text}: {reason or found['state']['config_update']}"
            )


def connect(environment: Mapping[str, str], patience: Patience | None = None) -> Workspace:
    """The workspace and whoever runs this, as Databricks' own tools find them.

    Raises UserError when there is no host, or nobody is signed in.
    """
    host, secret = given(environment, HOST), given(environment, TOKEN)
    if not (host and secret):
        host, secret = _unified()
    url = host.rstrip("/") if "//" in host else f"https://{host.rstrip('/')}"
    site = Site("Databricks", HOST, url, _explain)
    return Workspace(Databricks(site, Token(TOKEN, secret), patience or Patience()), url)


def here() -> Workspace:
    """The workspace that this process's environment names."""
    return connect(os.environ)


def _unified() -> tuple[str, str]:
    """Host and token by Databricks' unified authentication: profiles, CI's federation, Azure's."""
    try:
        config = signed_in()
        said = config.authenticate().get("Authorization", "")
    except ValueError as error:
        reason = " ".join(str(error).split())[:MOST_REASON]
        raise UserError(
            f"{HOST}: found nobody signed in, expected {HOST} and {TOKEN}, or a profile ({reason})"
        ) from None
    return str(config.host or ""), re.sub(r"^Bearer ", "", said)


@cache
def signed_in() -> Config:
    """Whoever runs this; keeps a token, and fetches a new one when it expires."""
    from databricks.sdk.core import Config

    return Config(retry_timeout_seconds=20)


def _config(entities: Mapping[str, Entity], shares: Mapping[str, int]) -> dict[str, Any]:
    return {
        "served_entities": [
            {key: entity[key] for key in GIVEN if entity.get(key) is not None}
            for entity in entities.values()
        ],
        "traffic_config": {
            "routes": [
                {"served_model_name": name, "traffic_percentage": shares.get(name, 0)}
                for name in entities
            ]
        },
    }


def _target(route: Any) -> str:
    return str(route.get("served_entity_name") or route["served_model_name"])


def _explain(status: int, reason: str, doing: Doing) -> str:
    if status == 401:
        return f"{TOKEN}: Databricks does not accept it ({reason}); it expired, or is another's"
    if status == 403:
        return (
            f"Databricks: may not {doing.text} ({reason}); whoever runs this needs "
            f"{doing.permission}"
        )
    return f"Databricks: could not {doing.text}: {reason}"
