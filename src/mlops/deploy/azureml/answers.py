"""What Azure ML's deployments answer, and what Azure Monitor says of their answers."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import requests

from mlops.base.errors import UserError
from mlops.base.http import TIMEOUT, Doing
from mlops.deploy import specification
from mlops.deploy.azureml.workspace import ROLE, Workspace
from mlops.deploy.target import Health, Row

METRICS = "2023-10-01"
READER = "Monitoring Reader"
SERVED = "x-model-digest"


@dataclass(frozen=True)
class Deployed:
    """One bundle's deployment, reached whatever its share of the traffic."""

    url: str
    key: str = field(repr=False)
    digest: str

    def score(self, rows: Sequence[Row]) -> Any:
        """What it answers; raises UserError when it does not, or the bytes are not these."""
        name = specification.name_of(self.digest)
        try:
            answer = requests.post(
                self.url,
                json={"dataframe_records": list(rows)},
                headers={"Authorization": f"Bearer {self.key}", "azureml-model-deployment": name},
                timeout=TIMEOUT,
            )
            answer.raise_for_status()
            content = answer.json()
        except (requests.RequestException, ValueError) as error:
            reason = str(error).replace(self.key, "***")[:200]
            raise UserError(f"Azure ML: {name} does not answer: {reason}") from None
        # Were the header lost on the way, what the bundle is known by would still have to score.
        served = answer.headers.get(SERVED, self.digest)
        if served != self.digest:
            raise UserError(f"Azure ML: {name} serves {served[:12]}, expected {self.digest[:12]}")
        return content


def reach(workspace: Workspace, endpoint: str, digest: str) -> Deployed:
    """One bundle's deployment behind an endpoint, by the endpoint's path."""
    doing = Doing(f"read the keys of {endpoint.rpartition('/')[2]}", ROLE)
    key = workspace.arm.send("POST", f"{endpoint}/listKeys", doing)["primaryKey"]
    url = workspace.arm.send("GET", endpoint, doing)["properties"]["scoringUri"]
    return Deployed(url, key, digest)


def health(workspace: Workspace, deployment: str) -> Health:
    """Requests, errors and latency of a deployment, by its path, since it was made or for a day.

    Azure Monitor has the 95th percentile of each minute; of those that saw requests, the mean.
    """
    counted = _measured(workspace, deployment, "RequestsPerMinute", "envoy_response_code eq '*'")
    answers = [(code, sum(counts)) for code, counts in counted]
    timed = _measured(workspace, deployment, "RequestLatency_P95")
    latency = [value for _, times in timed for value in times if value]
    return Health(
        requests=round(sum(count for _, count in answers)),
        # An answer that never came has the code 0.
        errors=round(sum(count for code, count in answers if code[:1] in ("5", "0"))),
        seconds=sum(latency) / len(latency) / 1000 if latency else 0.0,
    )


def _measured(
    workspace: Workspace, deployment: str, metric: str, kinds: str = ""
) -> list[tuple[str, list[float]]]:
    """A metric's value for each minute, by the value of its dimension."""
    doing = Doing(f"read the metrics of {deployment.rpartition('/')[2]}", READER)
    asked = {
        "api-version": METRICS,
        "metricnames": metric,
        "aggregation": "Average",
        "interval": "PT1M",
        "timespan": _since(workspace.arm.send("GET", deployment, doing)),
        **({"$filter": kinds} if kinds else {}),
    }
    place = f"{deployment}/providers/Microsoft.Insights/metrics"
    found = workspace.arm.send("GET", place, doing, params=asked)
    return [
        (_kind(series), [float(point.get("average") or 0.0) for point in series["data"]])
        for one in found["value"]
        for series in one["timeseries"]
    ]


def _kind(series: Any) -> str:
    return "".join(str(kind["value"]) for kind in series.get("metadatavalues") or [])


def _since(deployment: Any) -> str:
    """From when it was made until now, a day at most: minutes are not kept for longer queries."""
    now = dt.datetime.now(tz=dt.UTC)
    start = now - dt.timedelta(days=1)
    made = (deployment.get("systemData") or {}).get("createdAt")
    if made:
        start = max(start, dt.datetime.fromisoformat(made).astimezone(dt.UTC))
    return f"{start:%Y-%m-%dT%H:%M:%SZ}/{now:%Y-%m-%dT%H:%M:%SZ}"
