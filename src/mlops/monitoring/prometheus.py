"""The assessment as Prometheus gauges: in a file, and at a push gateway where one is set."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import get_args

from prometheus_client import CollectorRegistry, Gauge, generate_latest, push_to_gateway

from mlops.base.errors import one_line
from mlops.monitoring.assessment import Assessment, State

GATEWAY = "PROMETHEUS_PUSHGATEWAY"
JOB = "mlops-monitoring"


def text(assessment: Assessment) -> bytes:
    """The gauges in Prometheus' text format."""
    return generate_latest(_registry(assessment))


def push(assessment: Assessment) -> None:
    """Push the gauges to `PROMETHEUS_PUSHGATEWAY`; a gateway that fails is reported, not raised."""
    gateway = os.environ.get(GATEWAY)
    if not gateway:
        return
    key = {"environment": assessment.environment}
    try:
        push_to_gateway(gateway, JOB, _registry(assessment), key, timeout=10)
    except (OSError, ValueError) as error:
        print(f"{GATEWAY}: {gateway}: not pushed: {one_line(error)}", file=sys.stderr)


def _registry(assessment: Assessment) -> CollectorRegistry:
    registry = CollectorRegistry()

    def gauge(name: str, text: str, label: str, values: Mapping[str, float | None]) -> None:
        labels = ["environment", label] if label else ["environment"]
        metric = Gauge(f"mlops_monitoring_{name}", text, labels, registry=registry)
        for key, value in values.items():
            if value is not None:
                metric.labels(*[assessment.environment, key][: len(labels)]).set(value)

    newest, labelled = assessment.windows[0], assessment.labelled[:1]
    features = newest.features
    qualities = [quality for window in labelled for quality in window.qualities]
    states = {state: float(state == assessment.state) for state in get_args(State)}
    gauge("state", "1 for the decision: ok, watch or retrain", "state", states)
    gauge("timestamp_seconds", "Time of the assessment", "", {"": assessment.now.timestamp()})
    gauge("rows", "Rows of the newest window", "", {"": newest.rows})
    gauge("labels", "Labels of the newest window", "", {"": sum(w.labels for w in labelled)})
    gauge("lines", "Lines of the logs by kind, such as judged and broken", "kind", assessment.lines)
    beyond = "Population stability index of {}, beyond chance"
    gauge("drift", beyond.format("a feature"), "feature", {f.name: f.drift for f in features})
    missing = {f.name: f.missing for f in features}
    gauge("missing", "Share of rows without the feature", "feature", missing)
    never = "Share of rows with a category that training never saw, beyond chance"
    gauge("unseen", never, "feature", {f.name: max(f.unseen, 0.0) for f in features})
    scores = {s.name: s.drift for s in newest.scores}
    gauge("scores_drift", beyond.format("the predictions"), "output", scores)
    now, before = ({q.metric: getattr(q, k) for q in qualities} for k in ("value", "before"))
    gauge("quality", "A metric of the newest labelled rows", "metric", now)
    gauge("quality_before", "The same metric of the evidence", "metric", before)
    if found := assessment.published:
        gauge("features_expected", "Keys of the next day in the source", "", {"": found.expected})
        gauge("features_found", "Those of them with published features", "", {"": found.found})
        made, stale = "When features were published last", "The age at which they are refused"
        gauge("features_made_timestamp_seconds", made, "", {"": found.made})
        gauge("features_stale_after_seconds", stale, "", {"": 3600 * found.stale_after})
    if measured := assessment.health:
        outcomes = {"failed": measured.errors, "refused": measured.refused}
        outcomes["answered"] = measured.requests - sum(outcomes.values())
        lately = "Requests in the time that the target measures"
        gauge("requests", lately, "outcome", outcomes)
        gauge("latency_seconds", "Their 95th percentile", "", {"": measured.seconds})
    return registry
