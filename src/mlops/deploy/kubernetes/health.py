"""How a bundle's requests went, from the metrics of its pods."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection

from mlops.base.errors import UserError
from mlops.deploy import prometheus
from mlops.deploy.kubernetes.kubectl import Cluster
from mlops.deploy.kubernetes.objects import INSTANCE, PORT
from mlops.deploy.prometheus import Sample
from mlops.deploy.target import Health

# Who scores; whoever only looks after the process is no client.
ROUTES = {"predict", "invocations", "v2 infer"}


def health(cluster: Cluster, name: str) -> Health:
    """The sum over the pods of a bundle's deployment, since each of them started."""
    pods = [pod["metadata"]["name"] for pod in cluster.every("pod", f"{INSTANCE}={name}")]
    texts = [text for pod in pods if (text := _metrics(cluster, pod))]
    samples = [sample for text in texts for sample in prometheus.samples(text)]
    output = _first_output(cluster, name) if texts else ""
    return summed(samples, output)


def summed(samples: Collection[Sample], output: str) -> Health:
    """All samples as one; `output` is the name of the one whose scores are counted."""
    requests = errors = 0.0
    buckets: dict[float, float] = defaultdict(float)
    for name, labels, value in samples:
        if name == "mlops_requests_total" and labels["route"] in ROUTES:
            requests += value
            errors += value * (int(labels["status"]) >= 500)
        elif name == "mlops_request_seconds_bucket" and labels["route"] in ROUTES:
            buckets[float(labels["le"])] += value
    scores = prometheus.tenths(samples, output)
    return Health(int(requests), int(errors), prometheus.quantile(0.95, buckets), scores)


def _metrics(cluster: Cluster, pod: str) -> str:
    """A pod's metrics; nothing of one that is not ready, or gone."""
    try:
        return cluster.read(f"pods/{pod}:{PORT}/proxy/metrics", f"read the metrics of {pod}")
    except UserError as error:
        if "may not" in str(error):
            raise
        return ""


def _first_output(cluster: Cluster, name: str) -> str:
    said = cluster.read(f"services/{name}:{PORT}/proxy/model", f"ask {name} for its bundle")
    return str(next(iter(json.loads(said).get("outputs") or []), ""))
