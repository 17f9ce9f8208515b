"""How a bundle's requests went, from the metrics of its pods."""

from __future__ import annotations

import json
from collections import defaultdict

from mlops.base.errors import UserError
from mlops.deploy import prometheus
from mlops.deploy.kubernetes.kubectl import Cluster
from mlops.deploy.kubernetes.objects import INSTANCE, PORT
from mlops.deploy.target import Health

# Routes that score; the others are for whoever runs the service.
ROUTES = {"predict", "invocations", "v2 infer"}


def health(cluster: Cluster, name: str) -> Health:
    """The sum over the pods of a bundle's deployment, since each of them started."""
    pods = [pod["metadata"]["name"] for pod in cluster.every("pod", f"{INSTANCE}={name}")]
    samples = [sample for pod in pods for sample in prometheus.samples(_metrics(cluster, pod))]
    requests = errors = 0.0
    buckets: dict[float, float] = defaultdict(float)
    for metric, labels, value in samples:
        if labels.get("route") not in ROUTES:
            continue
        if metric == "mlops_requests_total":
            requests += value
            errors += value * (int(labels["status"]) >= 500)
        elif metric == "mlops_request_seconds_bucket":
            buckets[float(labels["le"])] += value
    scores = prometheus.tenths(samples, _first_output(cluster, name)) if samples else ()
    return Health(int(requests), int(errors), prometheus.quantile(0.95, buckets), scores)


def _metrics(cluster: Cluster, pod: str) -> str:
    """A pod's metrics; none of one that is not ready, or gone."""
    try:
        return cluster.request(f"pods/{pod}:{PORT}/proxy/metrics", f"read the metrics of {pod}")
    except UserError as error:
        if "may not" in str(error):
            raise
        return ""


def _first_output(cluster: Cluster, name: str) -> str:
    model = cluster.request(f"services/{name}:{PORT}/proxy/model", f"ask {name} for its bundle")
    return str(next(iter(json.loads(model).get("outputs") or []), ""))
