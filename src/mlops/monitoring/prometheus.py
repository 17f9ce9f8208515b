"""The assessment as Prometheus gauges: in a file, and at a push gateway where one is set."""

from __future__ import annotations

import os
import sys
from typing import get_args

from prometheus_client import CollectorRegistry, Gauge, generate_latest, push_to_gateway

from mlops.monitoring.assessment import Assessment
from mlops.monitoring.decision import State
from mlops.monitoring.places import one_line

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

    def gauge(name: str, text: str, label: str, values: dict[str, float]) -> None:
        labels = ["environment", label] if label else ["environment"]
        metric = Gauge(f"mlops_monitoring_{name}", text, labels, registry=registry)
        for key, value in values.items():
            metric.labels(*[assessment.environment, key][: len(labels)]).set(value)

    newest = assessment.windows[0]
    labelled = assessment.labelled[0] if assessment.labelled else None
    qualities = labelled.qualities if labelled else ()
    states = {state: float(state == assessment.state) for state in get_args(State)}
    drift = {f.name: f.drift for f in newest.features if f.drift is not None}
    scores = {s.name: s.drift for s in newest.scores if s.drift is not None}
    gauge("state", "1 for the decision: ok, watch or retrain", "state", states)
    gauge("timestamp_seconds", "Time of the assessment", "", {"": assessment.now.timestamp()})
    gauge("rows", "Rows of the newest window", "", {"": newest.rows})
    gauge("labels", "Labels of the newest window", "", {"": labelled.labels if labelled else 0})
    gauge("lines", "Lines of the logs: judged, other, future, broken", "kind", {**assessment.lines})
    gauge("drift", "Population stability index of a feature, beyond chance", "feature", drift)
    gauge(
        "missing", "Share of rows without the feature", "feature",
        {f.name: f.missing for f in newest.features},
    )  # fmt: skip
    gauge(
        "unseen", "Share of rows with a category that training never saw, beyond chance", "feature",
        {f.name: max(f.unseen, 0.0) for f in newest.features},
    )  # fmt: skip
    gauge(
        "scores_drift", "Population stability index of the predictions, beyond chance", "output",
        scores,
    )  # fmt: skip
    gauge(
        "quality", "A metric of the newest labelled rows", "metric",
        {q.metric: q.value for q in qualities},
    )  # fmt: skip
    gauge(
        "quality_before", "The same metric of the evidence", "metric",
        {q.metric: q.before for q in qualities},
    )  # fmt: skip
    return registry
